# train_loss.gp : validation loss against bytes sent, from the CSV that train_table.sh writes (and which calls this).
#   gnuplot -e "csv='docs/train-loss.csv'; svg='docs/train-loss.svg'; steps='400'" tests/bench/train_loss.gp
set terminal svg size 1120,520 font "sans-serif,13" background "white"
set output svg
set datafile separator ";"
set datafile missing NaN
set logscale x
set format x "%g"
set xtics (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
set xrange [0.1:5]
set grid lc rgb "#dddddd" lt 1
set xlabel "MB sent per rank and step"
set ylabel "validation loss after ".steps." steps, mean of the seeds"
set key top right reverse Left spacing 1.2 font ",11"

set linetype 1 lc rgb "#000000" pt 5 ps 0.9
set linetype 2 lc rgb "#0072b2" pt 7 ps 0.9
set linetype 3 lc rgb "#d55e00" pt 9 ps 1.1
set linetype 4 lc rgb "#009e73" pt 11 ps 1.1
set linetype 5 lc rgb "#cc79a7" pt 13 ps 1.2
set linetype 6 lc rgb "#cc79a7" pt 12 ps 1.2
set linetype 7 lc rgb "#8b2500" pt 6 ps 0.9

begins(c, with) = substr(c, 1, strlen(with)) eq with
ends(c, with) = substr(c, strlen(c) - strlen(with) + 1, strlen(c)) eq with
x(is) = is ? column(8) : NaN

set multiplot layout 1,2
do for [o in "adam sgd"] {
    set title (o eq "adam" ? "Adam" : "SGD with momentum")."; topk:density=0.01 lies far above"
    stats csv every ::1 using (strcol(1) eq o ? column(4) : NaN) name "LOSS" nooutput
    set yrange [LOSS_min - 0.01 : LOSS_min + 0.2]
    mine(c) = strcol(1) eq o && begins(strcol(2), c)
    plot csv every ::1 using (x(mine("none"))):4 title "none", \
         csv every ::1 using (x(mine("quant"))):4 title "quant:bits=4", \
         csv every ::1 using (x(mine("powersgd"))):4 title "powersgd:rank=4", \
         csv every ::1 using (x(mine("topk"))):4 title "topk", \
         csv every ::1 using (x(mine("auto") && ends(strcol(2), "on"))):4 title "auto, feedback on", \
         csv every ::1 using (x(mine("auto") && ends(strcol(2), "off"))):4 title "auto, feedback off", \
         csv every ::1 using (x(mine("grid") || mine("auto rel"))):4 title "grid, auto, large errors", \
         csv every ::1 using (x(mine("topk") || mine("powersgd") || mine("grid") || mine("auto rel"))):4:(strcol(2)[strstrt(strcol(2), ":") + 1:*]) with labels left offset 0.8,-0.6 font ",9" tc rgb "#555555" notitle
}
unset multiplot
