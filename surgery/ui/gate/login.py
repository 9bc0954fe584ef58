"""The login page: plain HTML of our own, without a script, in the colours of the app, light and dark."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from urllib.parse import quote

from starlette.responses import HTMLResponse

from surgery.ui import access
from surgery.ui.gate.headers import digest
from surgery.ui.messages import _

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #ffffff; --text: #22262b; --quiet: #5d646d;
  --line: #ddddd9; --main: #1f5f8b; --bad: #a5301f; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --card: #1e2227; --text: #e3e5e8; --quiet: #a3abb4;
  --line: #343a41; --main: #2f7ab0; --bad: #f0958a; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 24rem; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
h1 { display: flex; align-items: center; gap: .5rem; margin: 0 0 1.5rem; font-size: 1.25rem; font-weight: 600; }
label { display: block; margin-bottom: .25rem; font-weight: 600; font-size: .875rem; }
input, button, a.button { width: 100%; min-height: 2.75rem; padding: 0 .75rem; font: inherit; border-radius: 4px; }
input { background: var(--back); color: inherit; border: 1px solid var(--quiet); }
button, a.button { display: grid; place-items: center; margin-top: 1rem; border: 0; background: var(--main);
  color: #fff; font-weight: 600; text-decoration: none; cursor: pointer; }
input:focus-visible, button:focus-visible, a.button:focus-visible { outline: 2px solid var(--main);
  outline-offset: 2px; }
p { margin: .5rem 0 0; color: var(--quiet); font-size: .875rem; }
p.bad { color: var(--bad); font-weight: 600; }
"""
_LOGO = (
    '<svg width="36" height="32" viewBox="0 0 44 40" fill="none" stroke="#4b8cbd" stroke-width="2" aria-hidden="true">'
    '<path d="M8 10 24 20 8 30M24 20h14"/><circle cx="8" cy="10" r="4" fill="#4b8cbd"/>'
    '<circle cx="8" cy="30" r="4" stroke-dasharray="3 2.3"/><circle cx="24" cy="20" r="4" fill="#4b8cbd"/></svg>'
)
_POLICY = (
    f"default-src 'none'; style-src '{digest(_STYLE)}'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def page(
    *,
    action: str | None,
    links: Mapping[str, str],
    target: str,
    problem: str = "",
    status: int = 401,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Return the page. action: where the token goes, None for no token. links: sign-in addresses by provider.

    target: where a visitor goes on to, a path of this app. problem: why the last attempt failed.
    """
    form = _form(action, target, problem) if action else ""
    sign_in = "".join(
        f'<a class="button" href="{escape(link)}">{escape(_sign_in_with(name))}</a>' for name, link in links.items()
    )
    text = f"""<!doctype html>
<html lang="{escape(os.environ.get("SURGERY_LANGUAGE", "en"))}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(_("Model Surgery"))}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body><main><h1>{_LOGO}{escape(_("Model Surgery"))}</h1>{form}{sign_in}</main></body>
</html>
"""
    given = {"Cache-Control": "no-store", "Content-Security-Policy": _POLICY, "Connection": "close"}
    return HTMLResponse(text, status, given | dict(headers or {}))


def _sign_in_with(provider: str) -> str:
    return _("Sign in") if provider == "default" else _("Sign in with {provider}").format(provider=provider)


def _form(action: str, target: str, problem: str) -> str:
    hint = _("The operator of this app set it as {name}.").format(name=access.TOKEN)
    failed = f'<p class="bad" role="alert" id="problem">{escape(problem)}</p>' if problem else ""
    return (
        f'<form method="post" action="{escape(action)}"><label for="token">{escape(_("Access token"))}</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" required autofocus '
        f'aria-describedby="hint{" problem" if problem else ""}">{failed}<p id="hint">{escape(hint)}</p>'
        f'<input type="hidden" name="to" value="{escape(target)}"><button>{escape(_("Log in"))}</button></form>'
    )


def local(target: str, home: str) -> str:
    """Return `target` as a path of this server, or `home` where it could lead elsewhere."""
    safe = quote(target, safe="/?&=%:@!$'()*+,;~-._")
    return safe if safe.startswith("/") and not safe.startswith("//") else home
