/* assets.c : style and script of the page. Colours are variables, in a light and a dark set; paper is light whatever the screen is. The
 * script only adds numbers under the pointer and a switch of colours: without it all charts are there. */
#include "report.h"

static const char light[] =
    "--bg:#f7f6f3;--card:#fff;--ink:#14130f;--soft:#5d5b55;--hair:#e4e2dc;--over:#c4221f;--allowed:#14130f;"
    "--s0:#2a78d6;--s1:#eb6834;--s2:#1baf7a;--s3:#b98300;--s4:#d5568a;--s5:#4a3aa7;--s6:#008300;--s7:#7d7b74;"
    "--h0:#edf4fd;--h1:#d6e6fa;--h2:#b7d3f6;--h3:#8fbbf0;--h4:#659fe6;--h5:#3b82d6;--h6:#2464b5;--h7:#164a8e;--h8:#"
    "0b2c58;"
    "--p0:#1baf7a;--p1:#2a78d6;--p2:#4a3aa7;--p3:#eb6834;--p4:#b98300;--p5:#d5568a;--p6:#8a8880;"
    "--g1:#edf4fd;--g2:#cfe2fa;--g3:#a5c9f4;--g4:#7fb1ee;--g5:#5598e7;";
static const char dark[] =
    "--bg:#131311;--card:#1c1c1a;--ink:#f4f3ef;--soft:#a9a7a0;--hair:#33322e;--over:#ff6b66;--allowed:#f4f3ef;"
    "--s0:#4c97f0;--s1:#e8703f;--s2:#22a877;--s3:#d79b1a;--s4:#e0729f;--s5:#9085e9;--s6:#3aa53a;--s7:#98968e;"
    "--h0:#1a2430;--h1:#17304f;--h2:#17406f;--h3:#1a5290;--h4:#2267b3;--h5:#2f7fd6;--h6:#5b9dea;--h7:#93c0f4;--h8:#"
    "d6e8fc;"
    "--p0:#1c9468;--p1:#2f7fd6;--p2:#7a6de0;--p3:#d9622f;--p4:#b98300;--p5:#c9588b;--p6:#7d7b74;"
    "--g1:#1a2a3d;--g2:#17375c;--g3:#17477b;--g4:#1b5a9c;--g5:#2270c2;";

static const char *const style[] = {
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.45 "
    "system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}",
    "main{max-width:1180px;margin:0 auto;padding:20px 16px "
    "40px}header{display:flex;gap:12px;align-items:baseline;flex-wrap:wrap;margin-bottom:14px}",
    "h1{font-size:22px;margin:0;letter-spacing:-.01em}h2{font-size:17px;margin:26px 0 "
    "10px}h3{font-size:15px;margin:0}h3 small,header small{font-weight:400;color:var(--soft)}",
    "header button{margin-left:auto;font:inherit;font-size:13px;color:var(--soft);background:none;border:1px solid "
    "var(--hair);border-radius:6px;padding:3px 10px;cursor:pointer}",
    ".tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px}.tiles div{background:var(--card);border:1px "
    "solid var(--hair);border-radius:10px;padding:12px 16px}",
    ".tiles b{display:block;font-size:27px;line-height:1.2;letter-spacing:-.02em}.tiles span{display:block}.tiles "
    "small{color:var(--soft);overflow-wrap:anywhere}",
    ".charts{margin-top:12px;display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:12px}",
    "figure{margin:0;background:var(--card);border:1px solid var(--hair);border-radius:10px;padding:14px 16px "
    "12px;min-width:0}figure h3 small{margin-left:4px;overflow-wrap:anywhere}",
    "figure[id^=heat],#phases,#break-even-plan,#break-even:nth-child(odd){grid-column:1/-1}",
    ".legend{display:flex;flex-wrap:wrap;gap:2px 14px;margin:4px 0 2px;font-size:12.5px;color:var(--soft)}.legend "
    "span{overflow-wrap:anywhere;white-space:nowrap}",
    ".key{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;vertical-align:-1px}",
    ".plot{padding:10px 10px 20px 58px}.area{position:relative}.area "
    "svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}",
    ".area span,.scale "
    "span{position:absolute;font-size:11.5px;color:var(--soft);white-space:nowrap;font-variant-numeric:tabular-nums}",
    ".area .y{right:calc(100% + 7px);transform:translateY(-50%)}.area .x{top:calc(100% + "
    "4px);transform:translateX(-50%)}.area{border-bottom:1px solid var(--soft)}",
    ".axis{margin:0;text-align:center;font-size:12px;color:var(--soft)}.note{margin:5px 0 "
    "0;font-size:12.5px;color:var(--soft)}.note b,.note .violations{color:var(--ink)}",
    ".grid{stroke:var(--hair);stroke-width:1;fill:none;vector-effect:non-scaling-stroke}.line{fill:none;stroke-width:1."
    "8;stroke-linejoin:round;stroke-linecap:round;vector-effect:non-scaling-stroke}",
    ".dot{fill:none;stroke-width:8;stroke-linecap:round;vector-effect:non-scaling-stroke}.band{stroke:none;opacity:.22}"
    ".dash{stroke-dasharray:5 5}",
    ".line.allowed{stroke:var(--allowed);stroke-width:1.4;stroke-dasharray:6 "
    "4}.band.allowed{display:none}.key.allowed{background:var(--allowed);height:3px;vertical-align:4px;border-radius:"
    "0}",
    ".dot.over{stroke:var(--over)}.key.over{background:var(--over);border-radius:50%}",
    ".cross{position:absolute;top:0;bottom:0;width:1px;background:var(--soft);display:none;pointer-events:none}",
    ".heat-box{display:grid;grid-template-columns:minmax(80px,max-content) 1fr;gap:8px;padding:8px 10px 20px "
    "0}.names{max-width:240px;min-width:0}.heat-box{align-items:start}",
    ".names "
    "span{display:block;height:15px;line-height:15px;font-size:11px;color:var(--soft);text-align:right;overflow:hidden;"
    "text-overflow:ellipsis;white-space:nowrap}",
    ".lanes{padding:4px 10px 22px 0;position:relative}.lane p{margin:8px 0 3px;font-size:12.5px}.lane "
    "p.note{margin-top:3px}.bar{position:relative;height:28px}.bar.thin{height:10px;margin-top:3px}",
    ".block{position:absolute;top:0;bottom:0;overflow:hidden;border-right:1px solid var(--card)}.block "
    "span{font-size:11.5px;line-height:28px;padding-left:7px;color:#fff;display:block;white-space:nowrap;overflow:"
    "hidden;text-overflow:ellipsis}",
    ".block:first-child{border-radius:5px 0 0 5px}.block:last-child{border-radius:0 5px 5px 0}.thin "
    ".block{border-radius:5px}.thin span{display:none}.scale{position:relative;border-top:1px solid "
    "var(--soft);margin-top:8px}.scale "
    "span{top:4px;transform:translateX(-50%)}.scale span:first-child{transform:none}",
    "table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;width:100%}.wide{overflow-x:"
    "auto;background:var(--card);border:1px solid var(--hair);border-radius:10px;padding:4px 12px}figure "
    ".wide{border:0;padding:4px 0}",
    "th,td{padding:5px 10px 5px 0;border-bottom:1px solid "
    "var(--hair);text-align:right;vertical-align:top}th:first-child,td.text{text-align:left}th{font-weight:500;color:"
    "var(--soft)}tbody tr:last-child>*{border-bottom:0}",
    "thead th{color:var(--ink);overflow-wrap:anywhere}.grid td,.grid th{text-align:center;padding:6px}.grid "
    "td{border:1px solid var(--card);font-size:12.5px}.grid th:first-child{text-align:right}",
    "details{margin-top:12px}summary{cursor:pointer;padding:6px 0}.layers "
    "td.text{font-size:12.5px}footer{margin-top:26px;font-size:12.5px;color:var(--soft)}",
    "#tip{position:fixed;z-index:9;display:none;pointer-events:none;background:var(--card);color:var(--ink);border:1px "
    "solid var(--soft);border-radius:7px;padding:6px 10px;font-size:12.5px;max-width:min(340px,90vw);box-shadow:0 3px "
    "14px #0003}",
    "#tip b{display:block}#tip div{overflow-wrap:anywhere}",
    "@media(max-width:760px){main{padding:14px 10px 30px}.tiles{grid-template-columns:1fr 1fr;gap:8px}.tiles "
    "div{padding:10px 12px}.tiles b{font-size:22px}figure{padding:12px "
    "10px}.odd{display:none}.plot{padding-left:50px}.names{max-width:96px}th,td{padding-right:8px}}",
    "@media print{body{background:#fff}main{max-width:none;padding:0}header button{display:none}figure,.tiles "
    "div,tr{break-inside:avoid}figure,.wide,.tiles "
    "div{border-color:#ccc}h2,summary{break-after:avoid}details{break-before:auto}.charts{grid-template-columns:1fr "
    "1fr}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}#tip{display:none!important}.wide{overflow:"
    "visible}}",
};

/* Which classes take which colours. */
static void colours(FILE *f)
{
    for (int k = 0; k < REPORT_RUNS; k++)
        fprintf(f, ".line.s%d,.dot.s%d{stroke:var(--s%d)}.band.s%d{fill:var(--s%d)}.key.s%d{background:var(--s%d)}\n",
                k, k, k, k, k, k, k);
    for (int k = 0; k < 9; k++) fprintf(f, "path.h%d{fill:var(--h%d)}.key.h%d{background:var(--h%d)}", k, k, k, k);
    for (int k = 0; k < 7; k++) fprintf(f, ".p%d{background:var(--p%d)}", k, k);
    for (int k = 1; k < 6; k++) fprintf(f, ".g%d{background:var(--g%d)}", k, k);
    fputc('\n', f);
}

void report_style(FILE *f)
{
    fputs("<style>\n", f);
    fprintf(f, ":root{color-scheme:light;%s}\n", light);
    fprintf(f, "@media(prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;%s}}\n", dark);
    fprintf(f, ":root[data-theme=dark]{color-scheme:dark;%s}\n", dark);
    for (size_t i = 0; i < sizeof style / sizeof *style; i++) fprintf(f, "%s\n", style[i]);
    colours(f);
    fprintf(f, "@media print{:root,:root[data-theme],:root:not([data-theme=light]){color-scheme:light;%s}}\n", light);
    fputs("</style>\n", f);
}

static const char *const script[] = {
    "(function(){'use strict';",
    "var tip=document.createElement('div');tip.id='tip';document.body.appendChild(tip);",
    "function si(v,units,base){var k=0;while(Math.abs(v)>=base*0.9995&&k<units.length-1){v/=base;k++}return "
    "+v.toPrecision(3)+' '+units[k]}",
    "function num(v,unit){if(v===null||v===undefined)return '\\u2013';",
    " if(unit==='bytes')return si(v,['B','kB','MB','GB','TB','PB'],1000);",
    " if(unit==='bit/s')return si(v,['bit/s','kbit/s','Mbit/s','Gbit/s','Tbit/s'],1000);",
    " if(unit==='ms'){v/=1000;unit='s'}",
    " if(unit==='s')return v===0?'0':v<0.001?+(v*1e6).toPrecision(3)+' \\u00b5s':v<1?+(v*1e3).toPrecision(3)+' "
    "ms':v<120?+v.toPrecision(3)+' s':v<7200?+(v/60).toPrecision(3)+' min':+(v/3600).toPrecision(3)+' h';",
    " var a=Math.abs(v);return "
    "a!==0&&(a<0.001||a>=1e6)?v.toExponential(2):a>=1e4?Math.round(v).toLocaleString('en'):String(+v.toPrecision(4))}",
    "function row(text,bold){var e=document.createElement(bold?'b':'div');e.textContent=text;tip.appendChild(e)}",
    "function place(e){tip.style.display='block';var "
    "w=tip.offsetWidth,h=tip.offsetHeight,x=e.clientX+14,y=e.clientY+14;",
    " if(x+w>innerWidth-6)x=Math.max(6,e.clientX-w-14);if(y+h>innerHeight-6)y=Math.max(6,e.clientY-h-14);tip.style."
    "left=x+'px';tip.style.top=y+'px'}",
    "function nearest(a,v){var lo=0,hi=a.length-1;while(hi-lo>1){var m=(lo+hi)>>1;if(a[m]<=v)lo=m;else hi=m}return "
    "Math.abs(a[lo]-v)<=Math.abs(a[hi]-v)?lo:hi}",
    "function lines(d,at,e){var "
    "x=d.x,v=x.log?x.lo*Math.pow(x.hi/x.lo,at):x.lo+(x.hi-x.lo)*at,first=true;tip.textContent='';",
    " d.s.forEach(function(s){if(!s||!s.x.length)return;var k=nearest(s.x,v),each=s.each>1&&s.from;",
    "  if(first){row(x.name+' '+(each&&x.name==='step'?num(s.from[k],'')+' and "
    "on':num(s.x[k],x.unit)),true);first=false}",
    "  if(s.y[k]===null)return;var t=s.name+': '+num(s.y[k],d.y.unit);",
    "  if(s.lo[k]!==s.hi[k])t+=' ('+num(s.lo[k],d.y.unit)+' to '+num(s.hi[k],d.y.unit)+')';row(t)});",
    " if(first)return false;place(e);return true}",
    "function heat(d,at,down,e){var "
    "n=d.begin.length-1,r=Math.min(d.rows.length-1,Math.floor(down*d.rows.length)),v=d.begin[0]+(d.begin[n]-d.begin[0])"
    "*at,c=0;",
    " while(c<n-1&&d.begin[c+1]<=v)c++;var k=r*n+c;tip.textContent='';row(d.rows[r],true);",
    " row('step '+num(d.begin[c],'')+': '+num(d.bits[k],'')+' bits per "
    "element');if(d.codec[k]>=0)row(d.codecs[d.codec[k]]);place(e)}",
    "document.querySelectorAll('figure').forEach(function(fig){var "
    "s=fig.querySelector('script'),area=fig.querySelector('.area'),d=null;if(!s||!area)return;",
    " var cross=area.querySelector('.cross');",
    " function move(e){d=d||JSON.parse(s.textContent);var "
    "b=area.getBoundingClientRect(),at=Math.min(1,Math.max(0,(e.clientX-b.left)/b.width)),down=(e.clientY-b.top)/"
    "b.height;",
    "  if(down<0||down>1)return leave();if(d.heat)return heat(d,at,down,e);",
    "  if(lines(d,at,e)&&cross){cross.style.display='block';cross.style.left=100*at+'%'}}",
    " function leave(){tip.style.display='none';if(cross)cross.style.display='none'}",
    " area.addEventListener('pointermove',move);area.addEventListener('pointerdown',move);area.addEventListener('"
    "pointerleave',leave)});",
    "var b=document.querySelector('header button'),root=document.documentElement;",
    "b.hidden=false;b.addEventListener('click',function(){var "
    "now=root.getAttribute('data-theme')||(matchMedia('(prefers-color-scheme:dark)').matches?'dark':'light');root."
    "setAttribute('data-theme',now==='dark'?'light':'dark')});",
    "addEventListener('beforeprint',function(){document.querySelectorAll('details').forEach(function(d){d.open=true})})"
    ";",
    "})();",
};

void report_script(FILE *f)
{
    fputs("<script>\n", f);
    for (size_t i = 0; i < sizeof script / sizeof *script; i++) fprintf(f, "%s\n", script[i]);
    fputs("</script>\n", f);
}
