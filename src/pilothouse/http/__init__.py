"""The HTTP side: servers, middleware, and what both APIs need of a request and an answer."""
