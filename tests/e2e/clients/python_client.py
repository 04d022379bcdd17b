"""How a library fetches a page: ``LIBRARY PROXY CA URL …``; prints [seconds to the first byte, the page] for each.

Three fetches of each URL: the first, one more of the same client, and one of a new client. PROXY is "-" for none.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
import urllib.request
from typing import Any


def by_requests(proxy: str | None, ca: str, urls: list[str]) -> list[Any]:
    import requests

    found = []
    with requests.Session() as session:
        session.trust_env = False
        for url in urls:
            began = time.monotonic()
            proxies = {"http": proxy, "https": proxy} if proxy else {}
            with session.get(url, proxies=proxies, verify=ca, stream=True) as response:
                first = next(response.iter_content(1))
                found.append([time.monotonic() - began, (first + response.content).decode()])
    return found


def by_httpx(proxy: str | None, ca: str, urls: list[str]) -> list[Any]:
    import httpx

    found = []
    context = ssl.create_default_context(cafile=ca)
    with httpx.Client(proxy=proxy, verify=context, trust_env=False) as client:
        for url in urls:
            began = time.monotonic()
            with client.stream("GET", url) as response:
                first = time.monotonic() - began
                found.append([first, response.read().decode()])
    return found


def by_aiohttp(proxy: str | None, ca: str, urls: list[str]) -> list[Any]:
    import aiohttp

    async def main() -> list[Any]:
        found = []
        context = ssl.create_default_context(cafile=ca)
        async with aiohttp.ClientSession() as session:
            for url in urls:
                began = time.monotonic()
                async with session.get(url, proxy=proxy, ssl=context) as response:
                    first = time.monotonic() - began
                    found.append([first, await response.text()])
        return found

    return asyncio.run(main())


def by_urllib(proxy: str | None, ca: str, urls: list[str]) -> list[Any]:
    found = []
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)),
    ]
    opener = urllib.request.build_opener(*handlers)
    for url in urls:
        began = time.monotonic()
        with opener.open(url) as response:
            first = time.monotonic() - began
            found.append([first, response.read().decode()])
    return found


LIBRARIES = {"requests": by_requests, "httpx": by_httpx, "aiohttp": by_aiohttp, "urllib": by_urllib}


if __name__ == "__main__":
    library, proxy, ca, *urls = sys.argv[1:]
    fetch = LIBRARIES[library]
    through = None if proxy == "-" else proxy
    print(
        json.dumps([one for url in urls for said in ([url, url], [url]) for one in fetch(through, ca, said)])
    )
