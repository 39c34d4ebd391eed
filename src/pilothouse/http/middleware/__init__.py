"""The layers that every request passes before a route, outermost first: see ``stack``."""
