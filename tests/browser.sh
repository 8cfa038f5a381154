#!/bin/sh
# Finds a browser of the Chromium family for the tests of the console, or installs one; writes its path to $1.
#   WEIR_BROWSER, else chromium or Chrome on PATH, else the system's package (as root on Debian and its kin), else the one
#   that Playwright brings.
set -e
stamp=$1
python=$2

found() {
    printf '%s\n' "$1" > "$stamp"
    exit 0
}

if [ -n "${WEIR_BROWSER:-}" ]; then
    command -v "$WEIR_BROWSER" > /dev/null || {
        echo "weir: WEIR_BROWSER=$WEIR_BROWSER: is no program; name a Chromium or Chrome, or unset it" >&2
        exit 1
    }
    found "$(command -v "$WEIR_BROWSER")"
fi
look() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if path=$(command -v "$name") && "$path" --version > /dev/null 2>&1; then found "$path"; fi
    done
}
look
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "weir: installing chromium, for the console's tests"
    if { apt-get install -y -qq chromium || { apt-get update -qq && apt-get install -y -qq chromium; }; } > "$stamp.log" 2>&1; then
        look
    fi
fi
echo "weir: fetching Playwright's chromium, for the console's tests"
if "$python" -m playwright install chromium > "$stamp.log" 2>&1; then
    found "$("$python" -c 'from playwright.sync_api import sync_playwright
with sync_playwright() as p: print(p.chromium.executable_path)')"
fi
echo "weir: no browser for the console's tests: install Chromium or Chrome, or name one by WEIR_BROWSER (see $stamp.log)" >&2
exit 1
