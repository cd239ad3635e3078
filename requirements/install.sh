#!/bin/sh
# Makes .venv hold exactly what requirements/dev.lock names; `make setup` calls it with a Python.
set -eu
python=$1
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Koine needs Python 3.11 or newer, got $("$python" --version 2>&1): install it, or name" \
    "another with \`make PYTHON=…\`" >&2
  exit 1
fi
uv=$(command -v uv || true)
if [ ! -x .venv/bin/python ]; then
  if [ -n "$uv" ]; then "$uv" venv -q --python "$python" .venv; else "$python" -m venv .venv; fi
fi
if [ -z "$uv" ]; then
  uv=.venv/bin/uv
  [ -x "$uv" ] || .venv/bin/python -m pip install -q "$(grep -o '^uv==[^ ]*' requirements/dev.lock)"
fi
VIRTUAL_ENV=.venv "$uv" pip sync -q --compile-bytecode --require-hashes requirements/dev.lock
