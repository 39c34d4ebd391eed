"""HTTP: servers, middleware, and what both APIs need for requests and answers."""
