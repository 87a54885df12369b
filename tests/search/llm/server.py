"""A real HTTP server that speaks the OpenAI chat protocol, and misbehaves as it is told."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = str | Callable[[dict[str, Any]], str]
"""A text to answer, a failure such as "!401", or a function of the request that returns one of these."""


class ChatServer:
    """Answers requests with behaviours in turn; the last one stays.

    "!401", "!429" (with Retry-After: 7), "!500", "!slow" (answers after 3 s), "!truncated" (half a body), "!empty" (no
    choice), "!nothing" (no content), "!length" (cut off), "!closed" (hangs up) are failures; anything else is the text.
    """

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(body)
                turn = min(len(outer.requests), len(outer.behaviours)) - 1
                behaviour = outer.behaviours[turn]
                outer._answer(self, body, behaviour if isinstance(behaviour, str) else behaviour(body))

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], text: str) -> None:
        def send(status: int, content: bytes, **headers: str) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

        def answer(content: str | None, reason: str = "stop") -> dict[str, Any]:
            message = {"role": "assistant", "content": content}
            return {
                "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "finish_reason": reason, "message": message}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
            }  # fmt: skip

        match text:
            case "!401" | "!500" | "!404":
                send(int(text[1:]), json.dumps({"error": {"message": f"failure {text[1:]}"}}).encode())
            case "!429":
                send(429, b'{"error": {"message": "slow down"}}', retry_after="7")
            case "!truncated":
                send(200, json.dumps(answer("x")).encode()[:60])
            case "!empty":
                send(200, json.dumps(answer("x") | {"choices": []}).encode())
            case "!nothing":
                send(200, json.dumps(answer(None)).encode())
            case "!length":
                send(200, json.dumps(answer('{"reasoning": "half', "length")).encode())
            case "!closed":
                handler.close_connection = True
                handler.connection.close()
            case "!slow":
                time.sleep(3)
                send(200, json.dumps(answer("late")).encode())
            case _:
                send(200, json.dumps(answer(text)).encode())
