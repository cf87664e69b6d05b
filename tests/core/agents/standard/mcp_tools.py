"""A small MCP server over standard input and output. Its one argument is a file that its starts are written to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

NUMBERS = {"a": {"type": "integer"}, "b": {"type": "integer"}}
TOOLS: list[dict[str, Any]] = [
    {"name": "add", "description": "The sum.", "inputSchema": {"type": "object", "properties": NUMBERS}},
    *({"name": name, "inputSchema": {"type": "object"}} for name in ("greet", "fail", "hang", "die", "setting")),
    {"name": "a name that no provider takes", "inputSchema": {"type": "object"}},
]


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def called(name: str, args: dict[str, Any]) -> dict[str, Any] | None:
    """What the call comes to; none for one that is never answered."""
    match name:
        case "add" if isinstance(args["a"], int):
            total = args["a"] + args["b"]
            return said(str(total), structuredContent={"result": total})
        case "add":
            return said("these are no numbers", isError=True)
        case "greet":
            return said(f"Hello {args['name']}")
        case "fail":
            return said("out of order", isError=True)
        case "setting":
            return said(os.environ.get(args["name"], ""))
        case "die":
            os._exit(1)
        case _:
            return None


def answered(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "tools", "version": "1"},
            }
        case "tools/list" if "cursor" in params:
            return {"tools": TOOLS[3:]}
        case "tools/list":
            return {"tools": TOOLS[:3], "nextCursor": "more"}
        case "tools/call":
            return called(params["name"], params["arguments"])
        case _:
            raise NotImplementedError(method)


def main() -> None:
    with Path(sys.argv[1]).open("a", encoding="utf-8") as starts:
        starts.write(f"{os.getpid()}\n")
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            reply["result"] = answered(message["method"], message.get("params", {}))
        except NotImplementedError as error:
            reply["error"] = {"code": -32601, "message": f"there is no method {error}"}
        if "error" in reply or reply["result"] is not None:
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
