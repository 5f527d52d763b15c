# Sourced by run_pipeline.sh and run_tests.sh: finds Python, makes the virtual environment, installs what is pinned, finds Java.
# Leaves: $ROOT (the project), $PY (its Python), JAVA_HOME. Safe to run any number of times; does nothing when all is there.
#
# Settings from the environment: PYTHON (which interpreter), DEEPFAKE_VENV (where the environment lies, default <project>/.venv).

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1 (hint: $2)"; exit 2; }

# Runs a command as root if we may (root, or sudo that asks nothing); fails otherwise.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
  else return 1; fi
}

# Installs the first of the named Debian packages that exists. Fails quietly where there is no apt or no right to use it.
apt_install_one_of() {
  command -v apt-get >/dev/null 2>&1 || return 1
  if [ -z "${APT_UPDATED:-}" ]; then
    as_root apt-get -qq update >/dev/null 2>&1 || return 1
    APT_UPDATED=1
  fi
  local package
  for package in "$@"; do
    if DEBIAN_FRONTEND=noninteractive as_root apt-get -qq install -y --no-install-recommends "$package" >/dev/null 2>&1; then
      return 0
    fi
  done
  return 1
}

python_is_right() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    python_is_right "$PYTHON" || die "PYTHON is not Python 3.11, 3.12 or 3.13: $PYTHON" "point PYTHON at one of these"
    echo "$PYTHON"; return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null 2>&1 && python_is_right "$candidate"; then echo "$candidate"; return; fi
  done
  die "no Python 3.11, 3.12 or 3.13 found" "install one, e.g. apt-get install python3 python3-venv, or name it with PYTHON=..."
}

# make_environment REQUIREMENTS_FILE...: the environment with these installed. A stamp holds their content, so a second run is instant.
make_environment() {
  local venv="${DEEPFAKE_VENV:-$ROOT/.venv}" python stamp file
  PY="$venv/bin/python"
  exec 9>>"$venv.lock" || die "cannot write beside $venv" "set DEEPFAKE_VENV to a folder that you may write"
  command -v flock >/dev/null 2>&1 && flock 9      # two runs at once: the second waits for the first one's installs
  if ! { [ -x "$PY" ] && python_is_right "$PY" && "$PY" -m pip --version >/dev/null 2>&1; }; then
    python="$(find_python)" || exit 2
    say "setup: virtual environment $venv ($("$python" -V 2>&1))"
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
      rm -rf "$venv"
      # Debian splits venv off; the versioned package fits a versioned interpreter.
      apt_install_one_of "$(basename "$python")-venv" python3-venv
      "$python" -m venv "$venv" || { rm -rf "$venv"; die "$python cannot make a virtual environment" "apt-get install python3-venv"; }
    fi
  fi
  for file in "$@"; do
    stamp="$venv/.installed-$(basename "$file" .txt)-$(cat "$ROOT"/requirements*.txt "$ROOT/constraints.txt" | cksum | cut -d' ' -f1)"
    [ -e "$stamp" ] && continue
    say "setup: installing $(basename "$file") (some minutes the first time)"
    "$PY" -m pip install -q --disable-pip-version-check --use-pep517 -r "$file" || die "pip could not install $file" "see pip's lines above; is there a network?"
    touch "$stamp"
  done
  if ! "$PY" -c 'import cv2' >/dev/null 2>&1; then
    # opencv-python links against libGL and glib, which a server often lacks; the headless build is the same code without windows.
    say "setup: this machine lacks libGL or glib; using opencv-python-headless instead of opencv-python"
    file="$("$PY" -m pip freeze --disable-pip-version-check | sed -n 's/^opencv-python==/opencv-python-headless==/p')"
    "$PY" -m pip uninstall -q -y opencv-python && "$PY" -m pip install -q --disable-pip-version-check --force-reinstall --no-deps "${file:-opencv-python-headless}" \
      && "$PY" -c 'import cv2' || die "OpenCV does not import" "run: $PY -c 'import cv2'"
  fi
  flock -u 9 2>/dev/null; exec 9>&-
}

java_is_right() { # Spark 4 runs on Java 17 and later. Leaves JAVA_SAID: what the first one that does not start says
  local text version
  text="$("$1" -version 2>&1 | grep -v '^Picked up ')"
  version="$(printf '%s\n' "$text" | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)"
  [ -n "$version" ] || JAVA_SAID="${JAVA_SAID:-$1: $(printf '%s\n' "$text" | grep -m 1 . || echo says nothing)}"
  [ -n "$version" ] && [ "$version" -ge 17 ]
}

find_java() {
  local home
  for home in "${JAVA_HOME:-}" /usr/lib/jvm/*17* /usr/lib/jvm/*21* /usr/lib/jvm/default-java; do
    if [ -n "$home" ] && [ -x "$home/bin/java" ] && java_is_right "$home/bin/java"; then export JAVA_HOME="$home"; return 0; fi
  done
  if command -v java >/dev/null 2>&1 && java_is_right java; then unset JAVA_HOME; return 0; fi
  return 1
}

need_java() {
  local name set="" given="${JAVA_HOME:-}"
  JAVA_SAID=""
  if find_java; then
    [ -z "$given" ] || [ "$given" = "${JAVA_HOME:-}" ] || say "note: JAVA_HOME=$given holds no Java 17 or later; using ${JAVA_HOME:-java of the PATH}"
    return
  fi
  for name in JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS; do
    [ -z "${!name:-}" ] || set="$set $name=${!name}"
  done
  [ -z "$set" ] || [ -z "$JAVA_SAID" ] || die "Java does not start ($JAVA_SAID)" "correct or unset:$set"
  say "setup: installing Java 17 (for Spark)"
  apt_install_one_of openjdk-17-jre-headless openjdk-21-jre-headless
  find_java || die "Java 17 or later is missing; Spark needs it${JAVA_SAID:+ ($JAVA_SAID)}${given:+; JAVA_HOME=$given holds none}" "install it (Debian and Ubuntu: apt-get install openjdk-17-jre-headless; no root: unpack a JDK 17 and set JAVA_HOME)"
}
