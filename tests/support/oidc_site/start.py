"""An OpenID Connect provider: django-oauth-toolkit with people, groups and clients, on loopback.

It runs in an environment of its own (``tests.support.oidc_provider``), where nothing of Pilothouse is installed:
``python start.py CONFIGURATION.json``.
"""

import json
import sys
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

WANTED = json.loads(Path(sys.argv[1]).read_text())
LOGIN_FORM = '<form method="post">{% csrf_token %}{{ form.as_p }}<button>Log in</button></form>'

settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="oidc_urls",
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": WANTED["database"]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    LOGIN_URL="/login/",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ],
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_FORM}),
                    "django.template.loaders.app_directories.Loader",
                ],
            },
        }
    ],
    OAUTH2_PROVIDER={
        "OIDC_ENABLED": True,
        "OIDC_ISS_ENDPOINT": WANTED["issuer"],
        "OIDC_RSA_PRIVATE_KEY": WANTED["key"],
        "ID_TOKEN_EXPIRE_SECONDS": WANTED["seconds"],
        "OAUTH2_VALIDATOR_CLASS": "oidc_claims.Validator",
        "SCOPES": {"openid": "who you are", "profile": "your name", "groups": "your groups"},
    },
)
django.setup()


def prepare() -> None:
    """Create the tables, and what the configuration names and is not there yet."""
    from django.contrib.auth.models import Group, User  # noqa: PLC0415 - models exist after the set-up only
    from oauth2_provider.models import Application  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    for name, person in WANTED["people"].items():
        user, made = User.objects.get_or_create(username=name)
        if made:
            user.set_password(person["password"])
            user.save()
        user.groups.set([Group.objects.get_or_create(name=group)[0] for group in person["groups"]])
    for client in WANTED["clients"]:
        Application.objects.get_or_create(
            client_id=client["id"],
            defaults={
                "client_secret": client["secret"],
                "client_type": "confidential" if client["secret"] else "public",
                "authorization_grant_type": client["grant"],
                "redirect_uris": " ".join(client["back_at"]),
                "algorithm": "RS256",
                "skip_authorization": True,
            },
        )


class Quiet(WSGIRequestHandler):
    """Logs nothing: the tests print what they need."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    prepare()
    with make_server("127.0.0.1", WANTED["port"], get_wsgi_application(), handler_class=Quiet) as server:
        server.serve_forever()
