"""The figures of a page are those of the logs: page_truth.py PAGE.html RUN.jsonl...  Prints how many were compared; exits with 1 and the first that differ."""
import html
import json
import re
import sys

page = open(sys.argv[1], encoding="utf-8").read()
logs = [[json.loads(line) for line in open(p, encoding="utf-8") if line.endswith("\n")] for p in sys.argv[2:]]
wrong, compared = [], 0


def same(what, shown, meant):
    global compared
    compared += 1
    if not (shown == meant or abs(float(shown) - float(meant)) <= 6e-9 * abs(float(meant))):
        wrong.append(f"{what}: the page says {shown}, the log {meant}")


def number(text):
    """What '83.7 MB', '1,234', '2.5 ms' stands for."""
    m = re.fullmatch(r"([-+]?[\d.,]+(?:e[-+]?\d+)?)\s*(\S*)", text)
    unit = {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "×": 1, "%": 0.01}
    return float(m.group(1).replace(",", "")) * unit[re.sub(r"^[\d.]*", "", m.group(2))] if not text.endswith(("×", "%")) else float(text[:-1].replace(",", "")) * unit[text[-1]]


# the table: one row per field, one cell per run; what is shown is the value, rounded
table = re.search(r"<section id='summary'>.*?</section>", page, re.S).group(0)
ends = [next((o for o in reversed(log) if o["kind"] == "end"), None) for log in logs]
for row in re.findall(r"<tr>.*?</tr>", table, re.S):
    cells = re.findall(r"<td data-key='(\w+)'(?: data-value='([^']*)')?[^>]*>(.*?)</td>", row, re.S)
    for end, log, (key, value, shown) in zip(ends, logs, cells):
        if key in ("model", "data", "codec", "optimizer"):
            compared += 1
            if html.unescape(shown) != str(log[0].get(key, "")):
                wrong.append(f"{key}: {shown}")
        elif end and value:
            same(key, value, end[key])
            unit = 1e-3 if key.endswith("_ms") else 1
            if abs(number(shown) - end[key] * unit) > 6e-3 * abs(end[key] * unit):
                wrong.append(f"{key}: shown as {shown}, is {end[key]}")
# violations, by the counter of the log
for i, log in enumerate(logs):
    steps = [o for o in log if o["kind"] == "step"]
    over, before = 0, 0
    for o in steps:
        over += o["budget_violations"] > before
        before = o["budget_violations"]
    budgeted = sum(o["budget"] > 0 for o in steps)
    if budgeted:
        figure = re.search(rf"<figure id='error-{i}'>.*?</figure>", page, re.S).group(0)
        m = re.search(r"data-over='(\d+)' data-of='(\d+)'", figure)
        same("violations", m.group(1), over)
        same("steps with a budget", m.group(2), budgeted)
# lines: every point is the mean, the least and the largest of the steps that it stands for, and all steps are in some point
columns = {"loss-steps": "loss", "step-ms": "step_ms"}
for figure, column in columns.items():
    data = json.loads(re.search(rf"<figure id='{figure}'>.*?<script type='application/json'>(.*?)</script>", page, re.S).group(1))
    for log, series in zip(logs, [s for s in data["s"] if s]):
        values = [o[column] for o in log if o["kind"] == "step"]
        each = series["each"]
        if len(series["y"]) != -(-len(values) // each):
            wrong.append(f"{figure}: {len(series['y'])} points of {each} for {len(values)} steps")
        for k, (y, lo, hi) in enumerate(zip(series["y"], series["lo"], series["hi"])):
            part = values[k * each:(k + 1) * each]
            for what, a, b in (("mean", y, sum(part) / len(part)), ("least", lo, min(part)), ("largest", hi, max(part))):
                compared += 1
                if abs(a - b) > 2e-5 * abs(b):
                    wrong.append(f"{figure}: {what} of point {k}: {a}, of the log {b}")
# bits of the heat map, where a moment is one look
for i, log in enumerate(logs):
    m = re.search(rf"<figure id='heat-{i}'>.*?<script type='application/json'>(.*?)</script>", page, re.S)
    looks = [o for o in log if o["kind"] == "layers"]
    if not m or not looks:
        continue
    data, columns = json.loads(m.group(1)), None
    columns = len(data["begin"]) - 1
    if columns != len(looks):
        continue
    for r, name in enumerate(data["rows"]):
        for c, look in enumerate(looks):
            layer = next(l for l in look["layers"] if l["name"] == name)
            compared += 1
            if abs(data["bits"][r * columns + c] - layer["bits_per_element"]) > 1e-4 * max(1, layer["bits_per_element"]):
                wrong.append(f"bits of {name} at step {look['step']}")
print(f"{compared} figures compared")
if wrong or compared < 30:
    print("\n".join(wrong[:20]))
    sys.exit(1)
