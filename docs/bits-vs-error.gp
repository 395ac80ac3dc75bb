# bits-vs-error.gp : what each codec family pays for a given squared error, on the recorded GPT gradients.
#   for s in 20 400; do
#     build/release/bin/taut bench codec --sweep --csv --layers ../shared/traces/gpt.json \
#       --input ../shared/traces/gpt-step$s-rank0.f32 > docs/bits-vs-error-step$s.csv
#   done
#   gnuplot docs/bits-vs-error.gp            # writes docs/bits-vs-error.svg
set terminal svg size 1120,520 font "sans-serif,13" background "white"
set output "docs/bits-vs-error.svg"
set datafile separator ","
set datafile missing NaN
set logscale xy
set format x "%g"
set format y "10^{%T}"
set xrange [0.02:40]
set yrange [1e-5:1.2]
set xtics (0.03, 0.1, 0.3, 1, 2, 4, 8, 16, 32)
set grid lc rgb "#dddddd" lt 1
set xlabel "bits per element, headers included"

set label "not shown, 16 bits:\nbf16 3e-6, fp16 4e-8" at graph 0.03,0.10 font ",11" tc rgb "#555555"

set linetype 1 lc rgb "#0072b2" lw 1.6 pt 5 ps 0.6
set linetype 2 lc rgb "#56b4e9" lw 1.6 pt 4 ps 0.6
set linetype 3 lc rgb "#d55e00" lw 2.4 pt 7 ps 0.6
set linetype 4 lc rgb "#8b2500" lw 2.4 pt 6 ps 0.6
set linetype 5 lc rgb "#009e73" lw 1.6 pt 9 ps 0.7
set linetype 6 lc rgb "#999999" lw 1.6 pt 8 ps 0.7
set linetype 7 lc rgb "#cc79a7" lw 1.6 pt 11 ps 0.7
set linetype 8 lc rgb "#e69f00" lw 1.6 pt 13 ps 0.8
set linetype 9 lc rgb "#000000" lw 1.6 dt (6,4)

file(s) = sprintf("docs/bits-vs-error-step%d.csv", s)
pick(f) = strcol(1) eq f ? column(3) : NaN

set multiplot layout 1,2 margins 0.075,0.755,0.12,0.92 spacing 0.05
do for [step in "20 400"] {
    set title "gradient of step ".step." (818 176 elements)"
    if (step eq "20") {
        set ylabel "relative squared error"
        unset key
    } else {
        unset ylabel
        set key at screen 0.995,0.52 right center vertical reverse Left samplen 2 spacing 1.3
    }
    f = file(int(step))
    plot f every ::1 using (pick("quant")):4 with linespoints lt 1 title "quant, stochastic", \
         f every ::1 using (pick("quant nearest")):4 with linespoints lt 2 title "quant, nearest", \
         f every ::1 using (pick("grid packed")):4 with linespoints lt 3 title "grid, packed", \
         f every ::1 using (pick("grid rans")):4 with linespoints lt 4 title "grid, rans", \
         f every ::1 using (pick("topk")):4 with linespoints lt 5 title "topk", \
         f every ::1 using (pick("randk")):4 with linespoints lt 6 title "randk", \
         f every ::1 using (pick("topk then quant")):4 with linespoints lt 7 title "stack: topk + quant 2 bit", \
         f every ::1 using (pick("powersgd")):4 with linespoints lt 8 title "powersgd, per layer", \
         f every ::1 using (pick("gaussian reference")):4 with lines lt 9 title "Gaussian rate-distortion"
}
unset multiplot
