"""Nchan: a module of nginx in C that keeps channels and streams them; the strongest peer for streams."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.generator import compiler_version
from tests.bench.http_load import connections
from tests.bench.measuring import Unavailable
from tests.bench.observers import Transport
from tests.bench.peers.packages import from_debian
from tests.bench.peers.servers import listening
from tests.bench.processes import folder, free_port, running
from tests.bench.sides import Side, Stand, event

__all__ = ["METHOD", "name_of", "nchan"]

METHOD = """\
- *Nchan* (a module of nginx, in C) takes events by `POST`, keeps the newest of each channel in memory, and streams
  them over WebSockets and as server-sent events. One worker."""

_NGINX = ("/usr/sbin/nginx", "nginx")
_MODULE = ("/usr/lib/nginx/modules/ngx_nchan_module.so", "libnginx-mod-nchan")
_DATA = "/var/lib/nginx"
_MOST_MISSED = 500

_CONFIGURATION = """\
load_module {module};
daemon off; worker_processes 1; pid nginx.pid; error_log error.log error;
events {{ worker_connections 60000; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; tcp_nodelay on;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  nchan_max_reserved_memory 1024M; nchan_message_timeout 30m; nchan_message_buffer_length {kept};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/publish/(\\w+)$ {{ nchan_publisher; nchan_channel_id $1; }}
    location ~ ^/ws/(\\w+)$ {{
      nchan_subscriber websocket; nchan_channel_id $1; nchan_subscriber_first_message newest;
    }}
    location ~ ^/sse/(\\w+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest;
    }}
    location ~ ^/all/ws/(\\w+)$ {{
      nchan_subscriber websocket; nchan_channel_id $1; nchan_subscriber_first_message oldest;
    }}
    location ~ ^/all/sse/(\\w+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message oldest;
    }}
  }}
}}
"""


def _with_its_folder() -> tuple[str, ...]:
    """What comes before a command that wants nginx's folder for data to be there, and finds it empty.

    With Nchan, nginx makes its default folders in it whatever the configuration says. Where it was not installed the
    process gets one of its own, which nobody else sees.
    """
    if Path(_DATA).exists():
        return ()
    unshare = shutil.which("unshare")
    if unshare is None:
        raise Unavailable(f"nginx wants {_DATA}, and unshare (util-linux) is not on this machine")
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    script = f'mount -t tmpfs none {Path(_DATA).parent} && mkdir {_DATA} && exec "$@"'
    return (unshare, *as_root, "--mount", "sh", "-c", script, "sh")


def name_of(transport: Transport) -> str:
    return f"Nchan, {transport}"


def nchan(transport: Transport) -> Side:
    kind = "ws" if transport == "WebSocket" else "sse"
    sse = ("--sse",) if transport == "SSE" else ()

    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        server, _ = await from_debian(*_NGINX)
        module, _ = await from_debian(*_MODULE)
        port = free_port()
        with folder() as place:
            text = _CONFIGURATION.format(module=module, port=port, kept=_MOST_MISSED)
            await asyncio.to_thread((place / "nginx.conf").write_text, text)
            # nginx gives its worker to an unprivileged user when root starts it, who has to get into the folder.
            await asyncio.to_thread(place.chmod, 0o755)
            command = (*_with_its_folder(), str(server), "-p", f"{place}/", "-c", "nginx.conf", "-e", "error.log")
            async with running(*command, cwd=place) as process:
                await listening(port)
                async with connections(port, 1) as [line]:
                    await line.send("GET", "/")  # whatever it says: its worker is there then, too

                async def missed(count: int) -> tuple[str, ...]:
                    if count != _MOST_MISSED:
                        raise Unavailable(f"Nchan is set up to keep {_MOST_MISSED} events")
                    async with connections(port, 1) as [line]:
                        for channel in range(channels):
                            for number in range(count + 1):
                                answer = await line.send("POST", f"/publish/{channel}", event(number).encode())
                                assert answer.status in (200, 201, 202), answer
                    return ("--port", str(port), "--path", f"/all/{kind}/{{}}", *sse)

                publish = (
                    *("--publish", "http", "--publish-port", str(port)),
                    *("--publish-path", "/publish/{}", "--publish-type", "text/plain"),
                )
                yield Stand(process, ("--port", str(port), "--path", f"/{kind}/{{}}", *sse), publish, missed)

    async def prepare() -> dict[str, str]:
        _, nginx_version = await from_debian(*_NGINX)
        _, nchan_version = await from_debian(*_MODULE)
        return {"nginx": nginx_version, "Nchan": nchan_version, **await compiler_version()}

    return Side(name_of(transport), stand, prepare)
