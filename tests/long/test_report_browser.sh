#!/bin/sh
# The page of taut report in a real browser (Debian's chromium, headless): in light and dark, on a phone, on paper; nothing overflows, no error in its script,
# numbers under the pointer are the log's, a hundred thousand steps open in less than a second.
set -u
BUILD=${BUILD:-build/release}
. tests/support/shell.sh
if ! command -v chromium >/dev/null || ! command -v python3 >/dev/null; then
    echo "SKIP chromium or python3 is not here"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
browse() { timeout 120 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$dir/profile" --hide-scrollbars "$@" 2>>"$dir/browser.log"; }
python3 tests/support/make_log.py 400 16 1 spike=70 >"$dir/auto.jsonl"
python3 tests/support/make_log.py 400 16 2 codec=none >"$dir/none.jsonl"
python3 tests/support/make_log.py 100000 48 3 spike=900 >"$dir/long.jsonl"
"$BUILD/bin/taut" report "$dir/auto.jsonl" "$dir/none.jsonl" -o "$dir/page.html" >/dev/null && pass || fail "report"
begin=$(date +%s%N)
"$BUILD/bin/taut" report "$dir/long.jsonl" -o "$dir/long.html" >/dev/null && pass || fail "report of 100,000 steps"
echo "taut report, 100,000 steps: $((($(date +%s%N) - begin) / 1000000)) ms"

# ---- pictures: many colours, and not those of an empty page; dark is dark, light is light ----
cat >"$dir/png.py" <<'P'
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
at, idat = 8, b""
while at < len(data):
    n, kind = struct.unpack(">I4s", data[at:at + 8])
    body = data[at + 8:at + 8 + n]
    if kind == b"IHDR": w, h, depth, colour = struct.unpack(">IIBB", body[:10])
    if kind == b"IDAT": idat += body
    at += 12 + n
channels = {2: 3, 6: 4}[colour]
raw, stride, rows, before = zlib.decompress(idat), w * channels, [], bytearray(w * channels)
for y in range(h):
    f, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
    for i in range(stride):
        a, b, c = (line[i - channels] if i >= channels else 0), before[i], (before[i - channels] if i >= channels else 0)
        if f == 1: line[i] = (line[i] + a) & 255
        elif f == 2: line[i] = (line[i] + b) & 255
        elif f == 3: line[i] = (line[i] + (a + b) // 2) & 255
        elif f == 4:
            p = a + b - c
            line[i] = (line[i] + min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]) & 255
    rows.append(line)
    before = line
colours, light = {}, 0
for line in rows[::3]:
    for x in range(0, stride, 3 * channels):
        c = bytes(line[x:x + 3])
        colours[c] = colours.get(c, 0) + 1
total = sum(colours.values())
light = sum(sum(c) / 3 * n for c, n in colours.items()) / total
print(w, h, len(colours), round(light), round(100 * max(colours.values()) / total))
P
shot() { # shot NAME LOW HIGH ARGUMENTS...: mean brightness between
    name=$1 low=$2 high=$3
    shift 3
    browse "$@" --screenshot="$dir/$name.png" "file://$dir/page.html" >/dev/null
    set -- $(python3 "$dir/png.py" "$dir/$name.png" 2>&1)
    echo "$name: $1 x $2, $3 colours, brightness $4, $5% of one colour"
    if [ "$3" -gt 200 ] && [ "$4" -ge "$low" ] && [ "$4" -le "$high" ] && [ "$5" -lt 95 ]; then pass; else fail "$name: $*"; fi
}
shot light 170 255 --window-size=1200,1800
shot dark 5 90 --window-size=1200,1800 --blink-settings=preferredColorScheme=0
shot phone 170 255 --window-size=500,1800
browse --print-to-pdf="$dir/page.pdf" --no-pdf-header-footer "file://$dir/page.html" >/dev/null
[ "$(head -c 5 "$dir/page.pdf")" = %PDF- ] && [ "$(wc -c <"$dir/page.pdf")" -gt 40000 ] && pass || fail "print: $(ls -l "$dir/page.pdf")"

# ---- the script: told what it finds by a line of our own at the end of a copy of the page ----
probe='<script>addEventListener("error",function(e){document.title="ERROR "+e.message});addEventListener("load",function(){setTimeout(function(){
var t=[],wide=document.documentElement.scrollWidth-innerWidth;t.push("overflow "+Math.max(0,wide));
var fig=document.getElementById("loss-steps"),area=fig.querySelector(".area"),b=area.getBoundingClientRect();
area.dispatchEvent(new PointerEvent("pointermove",{clientX:b.left+b.width/2,clientY:b.top+b.height/2,bubbles:true}));
t.push("tip "+document.getElementById("tip").textContent);
t.push("figures "+document.querySelectorAll("figure").length+" empty "+Array.prototype.filter.call(document.querySelectorAll(".area svg"),function(s){return s.getBoundingClientRect().width<100||!s.querySelector("path")}).length);
var before=getComputedStyle(document.body).backgroundColor;document.querySelector("header button").click();
t.push("switch "+(before!==getComputedStyle(document.body).backgroundColor));
t.push("loaded "+Math.round(performance.getEntriesByType("navigation")[0].loadEventEnd));
if(document.title.indexOf("ERROR")!==0)document.title=t.join(" | ")},0)})</script>'
ask() { # ask PAGE ARGUMENTS...: the title that the probe has left
    sed "s#</body>#PROBE</body>#" "$dir/$1" | python3 -c 'import sys; sys.stdout.write(sys.stdin.read().replace("PROBE", sys.argv[1]))' "$probe" >"$dir/asked.html"
    shift
    browse "$@" --virtual-time-budget=4000 --dump-dom "file://$dir/asked.html" | sed -n 's/.*<title>\(overflow[^<]*\|ERROR[^<]*\)<.*/\1/p' | head -n 1
}
said=$(ask page.html --window-size=1200,1800)
echo "page: $said"
case $said in *"tip step "*"auto.jsonl: "*"none.jsonl: "*"empty 0 "*"switch true"*) pass ;; *) fail "the script says: $said" ;; esac
step=$(echo "$said" | sed -n 's/.*tip step \([0-9]*\)auto.*/\1/p')
loss=$(echo "$said" | sed -n 's/.*auto.jsonl: \([0-9.]*\)none.*/\1/p')
[ -n "$step" ] && python3 - "$dir/auto.jsonl" "$step" "$loss" <<'P' && pass || fail "under the pointer: loss $loss at step $step"
import json, sys
losses = {o["step"]: o["loss"] for o in map(json.loads, open(sys.argv[1])) if o["kind"] == "step"}
sys.exit(abs(losses[int(sys.argv[2])] - float(sys.argv[3])) > 6e-4 * losses[int(sys.argv[2])])
P
said=$(ask page.html --window-size=500,1800)
case $said in "overflow 0 |"*) pass ;; *) fail "on a phone: $said" ;; esac
best=9999
for k in 1 2 3; do
    ms=$(ask long.html --window-size=1200,1800 | sed -n 's/.*loaded \([0-9]*\)$/\1/p')
    [ -n "$ms" ] && [ "$ms" -lt $best ] && best=$ms
done
echo "100,000 steps: $(wc -c <"$dir/long.html") bytes, opened in $best ms (best of 3)"
[ $best -lt 1000 ] && pass || fail "100,000 steps: $best ms"
finish
