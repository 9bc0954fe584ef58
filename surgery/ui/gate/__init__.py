"""The gate: ASGI middleware in front of every route of the server, Streamlit's own and its websocket included.

From the outside in: `Headers` puts the security headers on every response, `Hosts` refuses foreign names (DNS
rebinding), `Intake` counts the bytes of request bodies as they arrive, `Entrance` asks for the token or the sign-in.

    server = st.App("app.py", middleware=gate.middleware())
"""

from surgery.ui.gate.build import lifespan, middleware, required

__all__ = ["lifespan", "middleware", "required"]
