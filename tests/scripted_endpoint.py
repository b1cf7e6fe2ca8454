"""A model behind an OpenAI-compatible endpoint, on this machine and with a script."""

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any


class Server:
    """An endpoint that says what it is told to: texts, statuses, or raw bytes; it keeps what it was asked.

    says: one thing for each asking, or a function of the message.
    """

    def __init__(self) -> None:
        self.says: list[Any] | Callable[[str], Any] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.headers.append((self.path, self.headers))
                said = outer.says(outer.asked[-1]["messages"][0]["content"]) if callable(outer.says) else outer.says.pop(0)
                body = said if isinstance(said, bytes) else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
                self.send_response(said if isinstance(said, int) else 200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
