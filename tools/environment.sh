# Virtual environments for tools/test and tools/demo: found or made, filled, and filled again when what they need changes.
#
# Sourced, never run. Needs bash 3.2 or newer and any Python from 3.11 on; nothing else, and no git.

# Print a Python that can hold the project. $PYTHON, if set, is taken at its word.
# `python3` goes first: it is what the machine's owner chose; the others are tried where it is too old or absent.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.12 python3.11 python3.13 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    echo "error: no Python 3.11 or newer with the venv module found. Install one, or name it: PYTHON=/path/to/python $0" >&2
    return 1
}

# ensure_venv DIRECTORY: make it, or make it again where its Python no longer runs (a moved directory, a removed Python).
ensure_venv() {
    local venv=$1 python
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
        return 0
    fi
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
        echo "error: $venv is there but is no virtual environment; it is left alone" >&2
        return 1
    fi
    python=$(find_python) || return 1
    "$python" -m venv --clear "$venv"
}

# pip_install VENV ARGUMENTS...: quiet, except for errors; a notice about a package index that is switched off is no error.
pip_install() {
    local venv=$1 status
    shift
    "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@" 2>&1 </dev/null \
        | { grep -v -e "^WARNING: Location .* is ignored" -e "^WARNING: Running pip as the 'root' user" || true; }
    status=${PIPESTATUS[0]}
    return "$status"
}

# install_once VENV ARGUMENTS...: pip_install, unless the last successful one had these arguments and this pyproject.toml.
install_once() {
    local venv=$1 stamp wanted
    shift
    stamp=$venv/recordio-installed
    wanted=$(printf '%s\n' "$PWD" "$@"; cat pyproject.toml)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return 0
    fi
    rm -f "$stamp"
    pip_install "$venv" "$@" || return
    printf '%s' "$wanted" >"$stamp"
}
