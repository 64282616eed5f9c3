# Nexus as a container: docs/deployment.md says how to run it.
#
#   docker build -t nexus .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/nexus.toml:/etc/nexus/nexus.toml:ro" nexus

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /build
RUN python -m venv /opt/nexus
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
RUN /opt/nexus/bin/pip install -c constraints.txt . \
    && /opt/nexus/bin/python -m compileall -q /opt/nexus/lib

FROM python:${PYTHON}-slim
# A number, so that Kubernetes can see that it is not root.
RUN groupadd --gid 10001 nexus \
    && useradd --uid 10001 --gid nexus --home-dir /var/lib/nexus --create-home \
        --shell /usr/sbin/nologin nexus \
    && install -d -o nexus -g nexus /etc/nexus
COPY --from=build /opt/nexus /opt/nexus
# Loopback inside a container is nobody's: the port must be open to be published. This beats the
# host of the configuration file; who may come in is decided by -p.
ENV PATH=/opt/nexus/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NEXUS_HOST=0.0.0.0
# nexus.toml is looked for here; the command line in the container finds it here, too.
WORKDIR /etc/nexus
USER 10001:10001
EXPOSE 8000
# Running calls may finish: docker stop -t 40, stop_grace_period: 40s (server.drain_timeout_seconds).
STOPSIGNAL SIGTERM
# Asks the gateway itself, wherever the configuration has it listen. A gateway without a healthy
# backend is alive: whether it is ready is for /readyz to say.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 CMD ["nexus", "health"]
ENTRYPOINT ["nexus"]
CMD ["serve"]
