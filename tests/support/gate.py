"""`Gate`: a TCP proxy that a test cuts, freezes, slows down or turns elsewhere: a network's faults before a server."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Gate:
    """Passes bytes between its own `port` on 127.0.0.1 and a server, until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._open_sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._request: bytes | None = None
        self._flows = threading.Event()
        self._flows.set()
        self.rate: float | None = None  # bytes per second and direction of each connection, or as fast as it goes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.answers_lost = 0
        self._start(self._accept)

    def lose_answer_to(self, request: bytes) -> None:
        """The next message that contains `request` still arrives; instead of an answer, the connection breaks."""
        self._request = request

    def cut(self) -> None:
        """Breaks every connection there is; new ones are let through."""
        with self._lock:
            for one in self._open_sockets:
                _shut(one)

    def point_to(self, port: int) -> None:
        """New connections go to another server; cuts those to the old one."""
        self._server = (self._server[0], port)
        self.cut()

    def freeze(self) -> None:
        """Nothing passes any more, and no connection notices: a network that swallows everything."""
        self._flows.clear()

    def thaw(self) -> None:
        """What has been sent meanwhile arrives."""
        self._flows.set()

    def close(self) -> None:
        """Breaks every connection; new ones are refused."""
        self.thaw()
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]  # any callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:  # there is no server now: the client is told as it would be without us
                client.close()
                continue
            with self._lock:
                self._open_sockets |= {client, server}
            lost = threading.Event()
            self._start(self._pass_requests, client, server, lost)
            self._start(self._pass_answers, client, server, lost)

    def _pass_requests(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        while data := _receive(client):
            if self._request is not None and self._request in data:
                self._request = None
                lost.set()
            self._pace(data)
            _send(server, data)
        self._end(client, server)

    def _pass_answers(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        while data := _receive(server):
            if lost.is_set():
                self.answers_lost += 1
                break
            self._pace(data)
            _send(client, data)
        self._end(client, server)

    def _pace(self, data: bytes) -> None:
        self._flows.wait()
        if self.rate is not None:
            time.sleep(len(data) / self.rate)

    def _end(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            for one in self._open_sockets & {client, server}:
                _shut(one)
                one.close()
            self._open_sockets -= {client, server}


def _receive(one: socket.socket) -> bytes:
    try:
        return one.recv(1 << 14)
    except OSError:
        return b""


def _send(one: socket.socket, data: bytes) -> None:
    try:
        one.sendall(data)
    except OSError:
        _shut(one)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
