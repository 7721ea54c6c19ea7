#!/usr/bin/env python3
"""ClickHouse's HTTP interface over its engine as a library (chdb), for tests on one machine.

    clickhouse.py --listen 127.0.0.1:18123 --data DIR

It speaks what clients of the HTTP interface need: `query` in the URL or the body, settings and `param_NAME` as URL
parameters or fields of a form, `database`, `default_format`, native blocks with LZ4 (`compress`, `decompress`), chunked bodies, errors
as text with `X-ClickHouse-Exception-Code`. It differs from a real server in that any user may do anything, a
result is sent when it is whole, and there are no replicated tables (`Code: 225`, no ZooKeeper).
"""
import argparse
import contextlib
import faulthandler
import http.server
import os
import re
import signal
import socketserver
import struct
import tempfile
import threading
import urllib.parse

import chdb
import lz4.block
from clickhouse_cityhash.cityhash import CityHash128

# URL parameters and headers that are no settings.
OURS = {"query", "query_id", "database", "default_format", "user", "password", "compress", "decompress", "role",
        "session_id", "session_check", "session_timeout", "quota_key", "client_protocol_version"}
BODY_MAX = 256 << 20
BLOCK = 1 << 20
LZ4, NONE = 0x82, 0x02
# An INSERT whose rows follow in the body: what stands before the settings, the settings, the format.
INSERT = re.compile(r"^\s*(INSERT\s+INTO\b.*?)(\bSETTINGS\s.+?)?\bFORMAT\s+(\w+)\s*;?\s*$", re.I | re.S)
# The status a real server answers with, by its error code; any other is a 500.
STATUS = {**dict.fromkeys((36, 53, 62, 41, 6, 26, 27, 38, 69, 33, 117, 456, 457, 1001), 400),
          **dict.fromkeys((46, 47, 50, 56, 60, 81, 115), 404),
          **dict.fromkeys((202, 252), 503)}


class Refused(Exception):
    """An error in the form of the server's own: code, text, status."""

    def __init__(self, code, text, status=None):
        super().__init__(text)
        self.code, self.status = code, status or STATUS.get(code, 500)


def literal(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def unpack(body):
    """The native protocol's compressed blocks: checksum (16), method (1), sizes (4 + 4), data."""
    out, at = [], 0
    while at < len(body):
        if len(body) < at + 25:
            raise Refused(271, "Code: 271. DB::Exception: A compressed block is cut short. (CANNOT_DECOMPRESS)", 400)
        low, high, method, size, plain = struct.unpack_from("<QQBII", body, at)
        block = body[at + 16:at + 16 + size]
        if CityHash128(block) != (low << 64) | high:
            raise Refused(40, "Code: 40. DB::Exception: Checksum doesn't match. (CHECKSUM_DOESNT_MATCH)", 400)
        if method == LZ4:
            out.append(lz4.block.decompress(block[9:], uncompressed_size=plain))
        elif method == NONE:
            out.append(block[9:])
        else:
            raise Refused(89, f"Code: 89. DB::Exception: Method {method:#x} is not built. (UNKNOWN_COMPRESSION_METHOD)", 400)
        at += 16 + size
    return b"".join(out)


def pack(body):
    """The same, of a result."""
    out = []
    for at in range(0, len(body), BLOCK):
        plain = body[at:at + BLOCK]
        data = lz4.block.compress(plain, store_size=False)
        block = struct.pack("<BII", LZ4, len(data) + 9, len(plain)) + data
        out.append(struct.pack("<QQ", *divmod(CityHash128(block), 1 << 64)) + block)
    return b"".join(out)


def form(body, content_type):
    """The fields of a multipart form; each is what the URL parameter of its name would be."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    fields = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + (boundary[1] if boundary else "").encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'\bname="([^"]*)"', head)
        if not name or b"filename=" in head:
            raise Refused(48, "Code: 48. DB::Exception: External tables are not built here. (NOT_IMPLEMENTED)", 501)
        fields[name[1].decode()] = value.decode("utf-8", "surrogateescape")
    return fields


class Engine:
    """One database directory; every request has a connection, and with it settings, of its own."""

    def __init__(self, path):
        self.path = path
        self.kept = chdb.connect(path)  # the engine runs as long as one connection is open
        self.version = self.kept.query("SELECT version()", "TabSeparated").bytes().decode().strip()

    def run(self, query, rows, url, readonly):
        """The result's bytes. `rows` is the body of an INSERT that names a format, else None."""
        with contextlib.ExitStack() as stack:
            connection = chdb.connect(self.path)
            stack.callback(connection.close)
            settings = [f"{name}={literal(value)}" for name, value in url.items() if name not in OURS]
            settings += ["readonly=2"] * readonly
            try:
                if url.get("database"):
                    connection.query("USE `" + url["database"].replace("`", "\\`") + "`")
                if settings:
                    connection.query("SET " + ", ".join(settings))
                insert = INSERT.match(query)
                if insert and rows is not None:
                    file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".rows", dir=self.path))
                    file.write(rows)
                    file.flush()
                    into, options, form = insert.groups()
                    query = f"{into} FROM INFILE {literal(file.name)} {options or ''} FORMAT {form}"
                result = connection.query(query, url.get("default_format") or "TabSeparated")
                return result.bytes() or b"" if result is not None else b""
            except chdb.ChdbError as error:
                text = str(error)
                code = re.match(r"Code: (\d+)", text)
                version = "" if "(version " in text else f" (version {self.version})"
                raise Refused(int(code[1]) if code else 1002, text + version) from error


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    engine = None

    def log_message(self, form, *args):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            out, size = [], 0
            while True:
                length = int(self.rfile.readline(1024).split(b";")[0], 16)
                if length == 0:
                    while self.rfile.readline(65536).strip():
                        pass
                    return b"".join(out)
                size += length
                if size > BODY_MAX:
                    raise Refused(307, "Code: 307. DB::Exception: The body is too large. (TOO_MANY_BYTES)", 413)
                out.append(self.rfile.read(length))
                self.rfile.readline(1024)
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_MAX:
            raise Refused(307, "Code: 307. DB::Exception: The body is too large. (TOO_MANY_BYTES)", 413)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client went away within its body")
        return body

    def answer(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        if parts.path in ("/ping", "/replicas_status"):
            return self.answer(200, b"Ok.\n")
        url = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        for header, name in (("X-ClickHouse-Database", "database"), ("X-ClickHouse-Format", "default_format")):
            if header in self.headers:
                url.setdefault(name, self.headers[header])
        try:
            self.answer(200, self.result(url), X_ClickHouse_Query_Id=url.get("query_id", ""))
        except Refused as error:
            self.close_connection = self.close_connection or error.status == 413
            text = (str(error).rstrip() + "\n").encode()
            self.answer(error.status, text, X_ClickHouse_Exception_Code=str(error.code))
        except (ConnectionError, ValueError, TimeoutError):
            self.close_connection = True

    do_POST = do_HEAD = do_GET

    def result(self, url):
        body = self.body()
        if self.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(48, "Code: 48. DB::Exception: Content-Encoding is not built here. (NOT_IMPLEMENTED)", 415)
        if url.get("decompress") == "1":
            body = unpack(body)
        content_type = self.headers.get("Content-Type", "")
        if content_type.startswith("multipart/form-data"):
            url.update(form(body, content_type))
            body = b""
        if "query" in url and INSERT.match(url["query"]):
            query, rows = url["query"], body
        else:
            query, rows = (url.get("query", "") + "\n" + body.decode("utf-8", "surrogateescape")).strip(), None
        if not query:
            raise Refused(62, "Code: 62. DB::Exception: Empty query. (SYNTAX_ERROR)")
        result = self.engine.run(query, rows, url, self.command != "POST")
        return pack(result) if url.get("compress") == "1" else result


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--listen", required=True)
    arguments.add_argument("--data", required=True)
    given = arguments.parse_args()
    faulthandler.enable()  # the engine is native code: where it crashes, the log says where
    os.makedirs(given.data, exist_ok=True)
    Handler.engine = Engine(given.data)
    host, port = given.listen.rsplit(":", 1)
    server = Server((host, int(port)), Handler)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"clickhouse {Handler.engine.version} on {given.listen}", flush=True)
    while not stop.wait(1):
        pass
    server.shutdown()
    Handler.engine.kept.close()


if __name__ == "__main__":
    main()
