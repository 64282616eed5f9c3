// Server-sent events out of a fetched body (EventSource can only GET). WHATWG HTML § 9.2.

/** The data of each event. */
export async function* sseEvents(body) {
  const decoder = new TextDecoder();
  let rest = "";
  let data = [];
  for await (const part of chunks(body)) {
    rest += decoder.decode(part, { stream: true });
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
  }
}

// Not every browser can iterate a stream by itself.
async function* chunks(body) {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => null);
  }
}
