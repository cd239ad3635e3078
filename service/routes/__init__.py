"""The HTTP endpoints, one file for each group; transports other than HTTP need none of them."""

from service.routes.app import create_app

__all__ = ["create_app"]
