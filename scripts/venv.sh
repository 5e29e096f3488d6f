# Sourced by the other scripts: makes .venv from a lock file, once, with nothing but Python and its venv module.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
    local name
    for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: no Python 3.11, 3.12 or 3.13 found" >&2
    echo "  hint: install one, or name it: PYTHON=/path/to/python3.12 $0" >&2
    exit 1
}

# make_venv LOCK: install the pinned packages of LOCK, then this tree, unless that was done before
# with the same files, those in C included.
make_venv() {
    local lock=$1 stamp=.venv/installed-${1%.lock}
    local files=("$lock" pyproject.toml engines/io_core/*.[ch])
    if [ -f "$stamp" ] && cmp -s "$stamp" <(cat "${files[@]}"); then
        return
    fi
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
    echo "installing the packages of $lock into .venv ..." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e . >&2
    # Else every start would compile it, where Python is told to write no bytecode.
    .venv/bin/python -m compileall -q conf engine engines schemas
    cat "${files[@]}" > "$stamp"
}
