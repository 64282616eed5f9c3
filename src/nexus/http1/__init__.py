"""HTTP/1.1 (RFC 9112) on uvloop transports and httptools parsers, both sides.

Callbacks, not coroutines: a request costs no task. The room knows no dialect; the bodies of its
own error answers are made by a function that is given to it.
"""
