# light.sh : the programs with libtorch start in half the time, without the libraries that it names and nothing here calls (Makefile, LIGHT);
# sourced, with BUILD set. LONG=1: with all of them.
# shellcheck shell=sh
if [ "${LONG:-0}" = 0 ] && [ -d "$BUILD/tests/light" ]; then
    LD_LIBRARY_PATH=$(cd "$BUILD/tests/light" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
