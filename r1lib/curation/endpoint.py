"""A model behind an OpenAI-compatible endpoint, with the standard library alone; what was answered once is never paid for twice."""

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from r1lib.errors import R1Error

_WORTH_A_RETRY = (408, 425, 429)                                        # and all of 500 and above


class Endpoint:
    """One model behind `url`, for instance http://localhost:8000/v1.

    key: sent as a bearer token, never written down. cache: a file of JSON lines, one an answer; None keeps answers in memory only.
    timeout: seconds for one attempt. retries: attempts after the first, for an endpoint that is busy or does not answer.
    pause: seconds before the first retry, twice as long before each further one. temperature, max_tokens: the model's, as the API has them.
    """

    def __init__(self, url: str, model: str, key: str | None = None, *, cache: str | Path | None = None, timeout: float = 60.0,
                 retries: int = 3, pause: float = 1.0, temperature: float = 0.0, max_tokens: int = 2048) -> None:
        if not url.startswith(("http://", "https://")):
            raise R1Error(f"url={url!r}: the address of an endpoint begins with http:// or https://.")
        if timeout <= 0 or retries < 0 or pause < 0:
            raise R1Error(f"timeout={timeout}, retries={retries}, pause={pause}: a timeout is above 0, the others are 0 or more.")
        self.url, self.model, self._key = url.rstrip("/"), model, key
        self.timeout, self.retries, self.pause = timeout, retries, pause
        self.temperature, self.max_tokens = temperature, max_tokens
        self.cache = Path(cache) if cache is not None else None
        self._answers = self._read()

    def ask(self, message: str, *, row: str, draw: int = 0) -> str:
        """What the model says to a message. row: what is named when it says nothing. draw: tells askings of the same message apart."""
        body = {"model": self.model, "messages": [{"role": "user", "content": message}], "temperature": self.temperature,
                "max_tokens": self.max_tokens}
        key = hashlib.sha256(json.dumps([self.url, body, draw], sort_keys=True).encode()).hexdigest()
        if key not in self._answers:
            answer = self._content(self._post(body, row), row)
            if self.cache is not None:
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                with self.cache.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "row": row, "model": self.model, "answer": answer}, ensure_ascii=False) + "\n")
            self._answers[key] = answer
        return self._answers[key]

    @property
    def hint(self) -> str:
        """What to do about an answer of no use: it is in the cache, too."""
        return f" To ask anew, remove its line from {self.cache}." if self.cache is not None else ""

    def _read(self) -> dict[str, str]:
        """The cache. The piece of a line that a killed process leaves is cut off, so that the next answer starts a line of its own."""
        if self.cache is None or not self.cache.exists():
            return {}
        whole, _, torn = self.cache.read_bytes().rpartition(b"\n")
        if torn:
            self.cache.write_bytes(whole + b"\n" if whole else b"")
        answers = {}
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                stored = json.loads(line)
                answers[stored["key"]] = stored["answer"]
            except (ValueError, KeyError, TypeError):
                raise R1Error(f"{self.cache}, line {number}: not an answer of an endpoint. Remove that line.") from None
        return answers

    def _post(self, body: dict[str, Any], row: str) -> bytes:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return response.read()
            except urllib.error.HTTPError as error:
                why = f"status {error.code}, {error.read(200).decode(errors='replace')!r}"
                if error.code < 500 and error.code not in _WORTH_A_RETRY:
                    break
            except (OSError, http.client.HTTPException) as error:                      # no connection, no answer in time, half an answer
                why = f"{error}" or type(error).__name__
        raise R1Error(f"{row}: {self.url} does not answer ({why}) after {attempt + 1} attempts.")

    def _content(self, answered: bytes, row: str) -> str:
        try:
            content = json.loads(answered)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str) or not content.strip():
            raise R1Error(f"{row}: {self.url} gave no answer of a model: {answered.decode(errors='replace')!r:.200}")
        return content
