"""The documentation as one page, made from the OpenAPI document. Pure.

FastAPI's own pages load their scripts from elsewhere; this one has none, so it works without a network and nothing on
it can run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from services.gateway.problem import Kind

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --quiet: #8889; --mark: #2a7f62; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
.method { color: var(--mark); font-weight: 600; } .quiet { color: var(--quiet); } div.wide { overflow-x: auto; }
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """HTML for people."""
    info, schemas = document["info"], document["components"]["schemas"]
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(info['title'])}</title>",
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1>{_prose(info['description'])}",
        "<p class='quiet'>For machines: <a href='/openapi.json'>openapi.json</a> (OpenAPI 3.1).</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(method, path, operation)
    parts.append("<h2 id='shapes'>Shapes</h2>")
    for name, schema in schemas.items():
        parts += _shape(name, schema)
    parts.append("<h2 id='problems'>Problems</h2><div class='wide'><table><tr><th>type<th>status<th>meaning")
    parts += [f"<tr id='{kind.path}'><td><code>{kind.path}</code><td>{kind.status}<td>{kind.title}" for kind in Kind]
    parts.append("</table></div></html>")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><span class='method'>{method.upper()}</span> <code>{escape(path)}</code></h2>"
    scopes = " or ".join(scope for each in operation.get("security", ()) for scope in each["bearer"])
    yield f"<p><strong>{escape(operation['summary'])}.</strong> <span class='quiet'>Scope: {escape(scopes)}.</span></p>"
    yield _prose(operation.get("description", ""))
    if parameters := operation.get("parameters"):
        yield "<div class='wide'><table><tr><th>parameter<th>in<th>meaning"
        for each in parameters:
            about = escape(each.get("description", ""))
            yield f"<tr><td><code>{escape(each['name'])}</code><td>{escape(each['in'])}<td>{about}"
        yield "</table></div>"
    if body := operation.get("requestBody"):
        example = body["content"]["application/json"]["example"]
        yield f"<pre>{escape(_curl(method, path, example))}</pre>"
    yield "<div class='wide'><table><tr><th>status<th>answer"
    for status, response in operation["responses"].items():
        yield f"<tr><td>{escape(status)}<td>{escape(response['description'])} {_link(response)}"
    yield "</table></div>"


def _shape(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3 id='{escape(name)}'>{escape(name)}</h3>{_prose(schema.get('description', ''))}"
    yield "<div class='wide'><table><tr><th>field<th>type<th>meaning"
    required = schema.get("required", ())
    for field, kind in schema.get("properties", {}).items():
        optional = "" if field in required else " <span class='quiet'>optional</span>"
        about = escape(kind.get("description", ""))
        yield f"<tr><td><code>{escape(field)}</code>{optional}<td>{escape(_type(kind))}<td>{about}"
    yield "</table></div>"


def _type(kind: Mapping[str, Any]) -> str:
    if "$ref" in kind:
        return str(kind["$ref"]).rpartition("/")[2]
    if "anyOf" in kind:
        return " or ".join(map(_type, kind["anyOf"]))
    if "enum" in kind or "const" in kind:
        return ", ".join(map(str, kind.get("enum", [kind.get("const")])))
    if kind.get("type") == "array":
        return f"array of {_type(kind['items'])}"
    return str(kind.get("type", "any"))


def _link(response: Mapping[str, Any]) -> str:
    for content in response.get("content", {}).values():
        name = str(content["schema"].get("$ref", "")).rpartition("/")[2]
        if name:
            return f"<a href='#{escape(name)}'>{escape(name)}</a>"
    return ""


def _curl(method: str, path: str, example: Any) -> str:
    return (
        f'curl -X {method.upper()} "$GATEWAY{path}" -H "authorization: Bearer $TOKEN" \\\n'
        f"  -H 'content-type: application/json' -d '{json.dumps(example)}'"
    )


def _prose(text: str) -> str:
    return "".join(f"<p>{_marked(part)}</p>" for part in text.split("\n\n") if part.strip())


def _marked(text: str) -> str:
    """Between back-quotes, code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))
