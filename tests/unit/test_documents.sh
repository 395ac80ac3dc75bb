#!/bin/sh
# The documents name subcommands, options and files that there are. (tests/long/test_guide.sh runs the user guide's commands.)
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
. tests/support/shell.sh
help_of() { # of "bench codec", kept: most subcommands are named often
    f=$dir/$(echo "$1" | tr ' ' '-')
    # shellcheck disable=SC2086
    [ -e "$f" ] || case $1 in tautrun) launch/tautrun --help >"$f" ;; *) "$TAUT" $1 --help >"$f" 2>&1 || : >"$f" ;; esac
    cat "$f"
}
there() { # is the program of this subcommand built? Those of libtorch are told as left out by the build.
    case $1 in train) [ -x "$BUILD/libexec/taut-train" ] ;; 'data distill') [ -x "$BUILD/libexec/taut-distill" ] ;; esac
}
for doc in README.md CONTRIBUTING.md docs/guide.md docs/faq.md docs/metrics.md docs/operations.md docs/data.md docs/data-plans.md docs/data-selection.md docs/planning.md docs/nccl.md docs/launch.md docs/results.md \
    docs/preload.md docs/python.md docs/architecture.md; do
    # commands: in blocks that are indented, and in `...`; up to a pipe, a comment or a redirection
    { grep -E '^    ' "$doc"; grep -oE '`[^`]*`' "$doc" | tr -d '`'; } | sed 's|build/release/bin/taut |taut |g' | grep -oE '(^|[ (])(taut|launch/tautrun|tautrun) [^|>#;&]*' | sed 's/^[ (]*//; s|^launch/||' | sort -u >"$dir/commands"
    while read -r program word second rest; do
        sub=$word
        [ "$program" = tautrun ] && sub=tautrun rest="$word $second $rest"
        case $word in bench | data) sub="$word $second" ;; *) [ "$program" = tautrun ] || rest="$second $rest" ;; esac
        case $sub in [a-z]*) ;; *) continue ;; esac
        case $sub in *SUBCOMMAND* | *'|'* | --* | taut-mpi) continue ;; esac
        there "$sub" || continue
        text=$(help_of "$sub")
        [ -n "$text" ] || { fail "$doc: taut $sub: there is no such subcommand"; continue; }
        for option in $(echo " $rest" | grep -oE ' --?[a-z][a-z-]*' | sed 's/-$//' | sort -u); do
            case $program:$option in tautrun:-* ) echo "$text" | grep -qE -- "(^|[ ,])$option([ ,]|$)" && { passed=$((passed + 1)); continue; }
                # what follows the program that tautrun starts is that program's
                case $rest in *taut\ train*) continue ;; esac ;; esac
            if echo "$text" | grep -qE -- "(^|[ ,])$option([ ,]|$)"; then passed=$((passed + 1)); else fail "$doc: taut $sub has no option $option"; fi
        done
    done <"$dir/commands"
    # scripts and programs of the tree
    for path in $(grep -oE '(tests|launch)/[a-z0-9_/]+\.(sh|c|py|f90|txt)' "$doc" | sort -u); do
        case $doc:$path in CONTRIBUTING.md:*test_x*) continue ;; esac
        if [ -e "$path" ]; then passed=$((passed + 1)); else fail "$doc names $path, which is not there"; fi
    done
    # links to files
    for link in $(grep -oE '\]\([^)#:]+[)#]' "$doc" | sed 's/^](//; s/[)#]$//' | sort -u); do
        if [ -e "$(dirname "$doc")/$link" ]; then passed=$((passed + 1)); else fail "$doc: link to $link, which is not there"; fi
    done
done
for sub in train 'data distill'; do there "$sub" || skip "options of taut $sub: it is not built, without libtorch"; done
finish
