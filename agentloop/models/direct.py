"""The lean client: aiohttp to any endpoint that speaks OpenAI's chat completions.

Enters: a base URL, a model name, perhaps a key. Leaves: replies, or ModelErrors sorted by what can be
done about them. Refuses to know: retries, limits, roles.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

from agentloop.errors import AccessError, ModelError, TransientError
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.prices import Price
from agentloop.models.wire import (
    error_message,
    failure,
    load_json,
    openai_parameters,
    read_completion,
)
from agentloop.records import Json

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT = 10.0  # seconds


class DirectModel:
    """One model at one OpenAI-compatible endpoint, over one pooled session."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        key_variable: str | None = None,
        price: Price | None = None,
        identity: Json | None = None,
    ):
        self.name = name
        self.identity = identity or {"model": name, "endpoint": base_url}
        self._model = model or name.split("/", 1)[-1]
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._key_variable = key_variable
        self.price = price
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Send one request."""
        import aiohttp

        where = f"`{self._base_url}`"
        body: Json = {"model": self._model, "messages": list(request.messages)}
        body |= openai_parameters(request, structured)
        start = time.perf_counter()
        try:
            async with self._open().post(
                f"{self._base_url}/chat/completions",
                data=orjson.dumps(body),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=request.timeout, sock_connect=CONNECT_TIMEOUT),
            ) as response:
                raw = await response.read()
                status, headers = response.status, response.headers
        except aiohttp.ClientConnectorSSLError as error:
            raise AccessError(f"{where} speaks no TLS: is it `http://`?") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TransientError(where, connected=False) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TransientError(
                f"{where} broke off: {type(error).__name__}", billed=True
            ) from error
        except ValueError as error:  # aiohttp's word for a header that cannot be sent
            variable = self._key_variable or "the key"
            raise AccessError(f"`{variable}` holds characters that no key has") from error
        except TimeoutError as error:
            raise TransientError(
                f"{where} did not answer within {request.timeout:g} s", billed=True
            ) from error
        if status != 200:
            raise self._failure(status, raw, headers.get("retry-after"))
        data = load_json(raw, where)
        return read_completion(data, where, self.price, time.perf_counter() - start)

    def _failure(self, status: int, raw: bytes, wish: str | None) -> ModelError:
        said = error_message(raw)
        if self._api_key:
            said = said.replace(self._api_key, "[key]")
        error = failure(status, said, f"`{self._base_url}`", model=self._model, wish=wish)
        if status in (401, 403) and self._key_variable:
            return AccessError(f"{error}; is `{self._key_variable}` set and right?")
        return error

    async def aclose(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None or self._session.closed:
            headers = {"content-type": "application/json"}
            if self._api_key:
                headers["authorization"] = f"Bearer {self._api_key}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), headers=headers, trust_env=False
            )
        return self._session
