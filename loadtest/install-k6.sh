#!/bin/sh
# Prints the path of a k6 program: $K6, the one on the PATH, or the one in loadtest/.bin.
# When there is none and Go can build it, builds it into loadtest/.bin (one to two minutes, needs the network).
set -eu

bin="$(cd "$(dirname "$0")" && pwd)/.bin"

if [ -n "${K6:-}" ]; then
  "$K6" version >&2 && echo "$K6" && exit 0
  echo "K6=$K6 does not run" >&2
  exit 1
fi
if command -v k6; then exit 0; fi
if [ -x "$bin/k6" ]; then
  echo "$bin/k6"
  exit 0
fi

# 1.25 is what k6 1.8 asks for. GOVERSION looks like go1.25.3.
minor="$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')"
if [ "${minor:-0}" -ge 25 ]; then
  echo "building k6 with Go 1.$minor, this takes one to two minutes" >&2
  if GOBIN="$bin" go install go.k6.io/k6@latest >&2 && [ -x "$bin/k6" ]; then
    echo "$bin/k6"
    exit 0
  fi
  echo "could not build k6" >&2
fi

cat >&2 <<'TEXT'
k6 is missing. One of these is enough:
  - install Go 1.25 or newer and run this script again: it builds k6 into loadtest/.bin
  - install k6 itself: https://grafana.com/docs/k6/latest/set-up/install-k6/
  - have k6 elsewhere: K6=/path/to/k6 npm run loadtest -- fan-out
TEXT
exit 1
