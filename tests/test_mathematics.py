"""Which answers equal which golds, in the ways people write them; and a worker that cannot be hung, lost or confused."""

import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lib import rewards
from r1lib.errors import R1Error
from r1lib.rewards import mathematics
from r1lib.rewards.mathematics import LONGEST, examine, grade

ROOT = Path(__file__).parent.parent

# gold -> answers that are right, answers that are wrong

INTEGERS = {
    "7": (["7", " 7 ", "7.", "+7", "007", "7.0", "7.", "7.00", "$7$", "$$7$$", r"\(7\)", r"\[7\]", r"\boxed{7}", r"$\boxed{7}$",
           r"\boxed{7}.", r"\fbox{7}", "**7**", "x = 7", "x=7.", "$x = 7$", r"\text{7}", r"\mathbf{7}", r"\boxed{x = 7}", r"\theta = 7",
           "AB = 7", "f(2) = 7", "a_{3} = 7", "$7", r"\$7", "7%", r"7\%", "7 cm", "7°", "7 dollars", "7e0", "7 units", "0.007 thousand",
           "7 m", r"\boxed{x = 7}"],
          ["8", "-7", "77", "7.5", "7..", "7,", "7/1", "14/2", "3+4", "7 or 8", "7, 8", "7 8", "x = x = 7", "xx = 7", "7 = 7", "7 = x + 1",
           "7!", "7^1", "7x", "[7]", "(7", "{7", "$7$ or $8$", r"\(7\) or \(8\)", "$7$ $7$", r"\boxed{7}\boxed{8}", "~7", "≈7",
           r"\approx 7", "> 7", "x > 7", "7+", "7 apples", "7 dozen", "7 million", "the answer is 7", "seven", "", " ", ".", "$",
           r"\boxed{}", "7_8", "0x7", "７", "٧", "7²", "7\u200b"]),
    "0": (["0", "-0", "0.0", "+0", ".0", "$0"], ["O", "o", "00.1", "none", "0/5", "-"]),
    "-7": (["-7", "−7", "–7", "- 7", "-7.0", "x = -7", "-$7", "$-7", "-\\$7"], ["7", "--7", "+-7", "- -7", "-7-", "(7)", "7-", "-7i"]),
    "1234": (["1234", "1,234", "1{,}234", r"1,\!234", r"1\,234", "1,234.0", "$1,234.00", r"\$1,234", "x = 1,234", "1.234 thousand"],
             ["12,34", "1,2,3,4", "1,234,", "1, 234", "1 234", "1.234", ",1234", "1,,234", "1,2345", "1234567", "$1,234.0y", "$1,234x",
              "$1$2$3$4$", "$1$ $2$ $3$ $4$"]),
    "1000000": (["1,000,000", "1000000", "1 million", "1e6", r"1 \times 10^6", "1 × 10⁶", "1 x 10^6", r"1 \cdot 10^{6}", "$1 million"],
                ["1,000,00", "1,0000000", "1 billion", "1e5", "1000000.0000001", "999999.9999999999", "10^6 million"]),
    "9" * 30: (["9" * 30, "9" * 30 + ".0"], ["9" * 29, "9" * 31, "9" * 30 + ".5"]),
}
DECIMALS = {
    "2.5": (["2.5", "2.50", "02.5", "5/2", r"\frac{5}{2}", r"\frac52", "2 1/2", r"2\frac{1}{2}", r"2 \frac12", "2½", "$2.50", "10/4"],
            ["2", "25", "2,5", "2.5.0", "2.500000001", "2 5", "21/2", "2..5"]),
    ".35625": (["0.35625", ".35625", "57/160"], ["0.356", "35625", "-.35625"]),
    ".0000672": (["0.0000672", r"6.72 \times 10^{-5}", "6.72e-5"], ["0.000672", r"6.72 \times 10^{5}", "0"]),
    r"0.\overline{36}": (["4/11", r"0.\overline{36}", r"\frac{4}{11}"], ["0.36", "0.3636", r"0.\overline{63}"]),
    r"3.\overline{3}": ([r"\frac{10}{3}", r"3\frac{1}{3}", r"3.\overline{33}"], ["3.3", "3.33"]),
}
FRACTIONS = {
    r"\frac{3}{4}": (["3/4", "3 / 4", r"\frac34", r"\frac 34", r"\frac{3}4", r"\frac3{4}", r"\dfrac{3}{4}", r"\tfrac{3}{4}",
                      r"$\frac{3}{4}$", "0.75", ".75", "¾", "6/8", r"\frac{ 3 }{ 4 }", r"x = \frac{3}{4}", "75/100", "+3/4"],
                     ["4/3", "3", "34", "3:4", "3 4", "0.7500001", r"\frac{3}{4}{5}", "3/4/1", "3//4", "1 3/4", r"\frac{3}{}",
                      r"-\frac{3}{4}"]),
    r"-\frac{35}{9}": ([r"\frac{-35}{9}", "-35/9", r"\frac{35}{-9}", r"-3\frac{8}{9}", "-3 8/9"],
                       ["35/9", "-9/35", "-3.89", "3 8/9", "-3-8/9"]),
    r"137 \frac{1}{2}": (["137.5", r"137\frac{1}{2}", "137 1/2", "275/2"], ["1371/2", r"137 + \frac12", "137", "68.5", r"137 \frac{3}{2}"]),
}
UNITS = {
    r"\$18.90": (["18.9", "$18.90", r"\$18.90", r"$\$18.90$", r"\boxed{\$18.90}", "18.90 dollars", "18.90$"],
                 ["18.09", "€18.90", "1890 cents", "18.90%"]),
    r"15\mbox{ cm}^2": (["15", "15 cm^2", r"15\text{ cm}^2", r"15 \mathrm{cm}^{2}", "15 square centimeters", "15 cm²"],
                        ["15 cm", "15 m^2", "15 cm^3", "225"]),
    r"90^\circ": (["90", "90°", r"90^{\circ}", r"90\degree", "90 degrees", "90 deg"],
                  ["90%", "9°", r"90^\circ}", r"90^{\circ", r"\frac{\pi}{2}", "90 cm"]),
    r"10\%": (["10%", r"10\%", "10", "10 percent", "0.1", "1/10"], ["1%", "0.01", "10°", "1000"]),
    "5.4 \\text{ cents}": (["5.4", "5.4 cents", "5.4¢"], ["$5.4", "5.4 dollars", "54"]),
    r"25\text{ miles per hour}": (["25", "25 mph", "25 miles per hour", "25 miles/hour"], ["25 km/h", "25 miles", "25 m/s"]),
    r"12 \text{ marbles}": (["12", "12 marbles", r"12\text{ marbles}"], ["12 apples", "12 million", "marbles", "1 2"]),
    r"\frac{270}7\text{ degrees}": (["270/7", r"\frac{270}{7}^\circ", r"38\frac{4}{7}"], ["38.57", "270"]),
    "2516_8": (["2516_8", "2516_{8}", r"$2516_8$"], ["2516", "2516_7", "1358", "2516_{10}", "2516_{8", "2516_8}"]),
}
RADICALS = {
    r"\frac{\sqrt{3}}{2}": ([r"\sqrt{3}/2", "sqrt(3)/2", "√3/2", r"\frac{\sqrt3}{2}", r"0.5\sqrt{3}", r"\sqrt{\frac{3}{4}}",
                             r"\frac{3}{2\sqrt{3}}", "3^{1/2}/2", r"\frac{1}{2}\sqrt 3", r"\sqrt{0.75}", "3^0.5/2"],
                            [r"\sqrt{3}", r"\frac{\sqrt{2}}{3}", "0.8660254", r"\sqrt{\frac32}", r"-\frac{\sqrt{3}}{2}", r"\sqrt(3"]),
    r"3\sqrt{13}": ([r"3 \sqrt{13}", "3sqrt(13)", "3*sqrt(13)", "3√13", r"\sqrt{117}", r"3\cdot\sqrt{13}", "sqrt(9*13)"],
                    [r"13\sqrt{3}", r"3\sqrt{12}", "10.8167", r"\sqrt{39}", r"3+\sqrt{13}", "39"]),
    r"\sqrt[3]{2}": ([r"2^{1/3}", r"2^{\frac{1}{3}}", r"\sqrt[3] {2}"], [r"\sqrt{2}", r"3\sqrt{2}", "1.26"]),
    r"1+2\sqrt{3}": ([r"2\sqrt{3}+1", r"1 + \sqrt{12}", r"2\sqrt3 + 1"], [r"3\sqrt{3}", r"1-2\sqrt{3}", r"(1+2)\sqrt{3}"]),
    r"\sqrt{2+\sqrt{3}}": ([r"\frac{\sqrt{6}+\sqrt{2}}{2}", r"\frac{1+\sqrt3}{\sqrt2}"],
                           [r"\sqrt{2}+\sqrt{3}", r"\frac{\sqrt{6}-\sqrt{2}}{2}"]),
}
CONSTANTS = {
    r"\frac{\pi}{2}": (["pi/2", "π/2", r"\pi/2", r"\frac12\pi", "0.5pi", r"\frac{2\pi}{4}", r"\arcsin 1", "90°"],
                       [r"\pi", "1.5708", r"2\pi", "90", r"-\frac{\pi}{2}"]),
    r"18+2\pi": ([r"2\pi+18", "18 + 2pi", r"2(9+\pi)"], [r"20\pi", r"18+7\pi", "24.28"]),
    r"\ln 2": (["ln 2", "ln(2)", r"-\ln\frac{1}{2}", r"\frac{\ln 4}{2}"], [r"\log 2", "0.693", "ln 3"]),
    r"\log_2 3": ([r"\log_{2}{3}", r"\frac{\ln 3}{\ln 2}", r"\log_{4} 9"], [r"\log_3 2", r"\log 3", "1.585"]),
    "e^{-2}": (["e^{-2}", "e^-2", "exp(-2)", r"\frac{1}{e^2}", "1/e^2"], ["e^2", "-e^2", "0.1353", "E^{-2}"]),
    "2^{2009}-1": (["2^{2009} - 1", r"2\cdot 2^{2008}-1", "-1+2^2009"], ["2^{2009}", "2^{2009}-2", "2^{2008}-1", "(2^{41})^{49}"]),
    r"\cos\frac{\pi}{5}": ([r"\frac{1+\sqrt{5}}{4}", r"\cos 36^\circ", r"\cos(\pi/5)"],
                           [r"\sin\frac{\pi}{5}", "0.809", r"\frac{1+\sqrt{5}}{2}"]),
    "10!": (["3628800", "10 \\cdot 9!", r"10 \cdot 9 \cdot 8!"], ["10", "9!", "11!"]),
    r"\binom{10}{3}": ([r"\binom{10}{7}", "120", r"\frac{10!}{3!7!}"], [r"\binom{10}{4}", "720", r"\frac{10}{3}"]),
}
POLYNOMIALS = {
    "x^2+2x+1": (["(x+1)^2", "x^2 + 2x + 1", "1+2x+x^2", "x*x+2*x+1", "x**2+2*x+1", "(x+1)(x+1)", "y = x^2+2x+1", "f(x) = (x+1)^2",
                  "x²+2x+1"],
                 ["(x-1)^2", "x^2+2x", "(x+1)^3", "x^2+2x+1=0", "2x+1", "x^2+2x+2", "x", "1", "x^2+2y+1", "(x+1)^{2}, 1",
                  "x^2+2x+1+10^{-30}", "x = x^2+2x+1"]),
    "x+5": (["5+x", "x+5.0"], ["x+2 3", "x+5 0", "x+1 4", "x2+5", "x+5_{9}"]),
    "x+12": (["12+x"], ["x+1 2", "x + 1 2", "x+21"]),
    "x+0.36": ([r"x+\frac{9}{25}"], ["x+1.2.3", "x+.3.6", "x+36"]),
    "I^2R": (["RI^2", r"R \cdot I^2"], ["-R", "R", "IR", "i^2R"]),
    "p - q": (["p-q", "-q+p", "-(q-p)"], ["q-p", "p+q", "p/q", "P-Q", "pq"]),
    "R^2 - r^2": (["(R-r)(R+r)", "R^2-r^2", "-r^2+R^2"], ["r^2-R^2", "R^2-R^2", "(R-r)^2", "R-r"]),
    r"\frac{11+9a}{20}": ([r"\frac{9a+11}{20}", "(11+9a)/20", r"\frac{11}{20}+\frac{9}{20}a", "0.55+0.45a"],
                          [r"\frac{11+9a}{2}", "11+9a/20", "a"]),
    "(a+5)(b+2)": (["(b+2)(a+5)", "ab+2a+5b+10", "(a + 5)(b + 2)"], ["(a+2)(b+5)", "ab+10", "a+5, b+2"]),
    r"\frac{1}{x}": (["1/x", "x^{-1}", "x^-1"], ["x", "-x", "1", r"\frac{1}{x^2}"]),
    "x^{3/2}": ([r"x\sqrt{x}", "x^1.5", r"\sqrt{x^3}", r"x^{\frac32}", r"(\sqrt{x})^3"], ["x^{2/3}", r"\sqrt{x}", "x^3/2"]),
    "ab": (["ba", "a b", r"a \cdot b", "a*b"], ["a+b", "a", "a/b", "AB"]),
    r"\frac{x}{2^{99}}": ([r"\frac{2x}{2^{100}}", r"2^{-99}x"], [r"\frac{x}{2^{98}}", "0", "0x"]),
    r"|x-3|": (["|3-x|", r"\sqrt{(x-3)^2}", r"\left|x-3\right|"], ["x-3", "3-x", "|x+3|", "|x|-3"]),
    r"\lfloor x \rfloor": ([r"\left\lfloor x \right\rfloor"], [r"\lceil x \rceil", "x", r"\lfloor x \rfloor + 1", r"\lfloor x+1 \rfloor"]),
    r"2\sin x\cos x": ([r"\sin 2x", r"\sin(2x)", "2 sin x cos x"], [r"\sin x\cos x", r"\sin^2 x", r"\cos 2x", r"2\sin x"]),
    r"\sin x": ([r"\cos(x-\frac{\pi}{2})"], [r"\sin_{2} x", r"\sin_2(x)", r"\sin x^{T}", r"\cos x"]),
    r"\sec^2 x": ([r"\tan^2 x + 1", r"\frac{1}{\cos^2 x}"], [r"\tan^2 x", r"\sec x"]),
    r"\frac{n(n+1)}{2}": ([r"\binom{n+1}{2}", r"\frac{n^2+n}{2}", r"\frac{n^2}{2}+\frac{n}{2}"],
                          [r"\frac{n(n-1)}{2}", r"\binom{n}{2}", "n"]),
    r"\frac{n!}{k!(n-k)!}": ([r"\binom{n}{k}"], [r"\binom{k}{n}", r"\frac{n!}{k!}"]),
    "e^{-x^2}": (["exp(-x^2)", r"\frac{1}{e^{x^2}}", "e^{-x^{2}}"], ["e^{x^2}", "e^{-2x}", "-e^{x^2}", "e^{-x^2}_1"]),
    r"\frac{\pi^2 \lambda}{6}": ([r"\frac{\lambda \pi^2}{6}", r"\frac{\pi^{2}}{6}\lambda"], [r"\frac{\pi^2}{6}", r"\frac{\pi \lambda}{6}"]),
    "a_1+a_2": (["a_{2}+a_{1}", "a_1 + a_2"], ["a_1", "2a_1", "a_1-a_2"]),
}
COMPLEX = {
    "6 - 5i": (["6-5i", "-5i+6", "6 - 5 i", "6+-5i", "-i(5+6i)"], ["6+5i", "5-6i", "6-5", "6", "-5i"]),
    "i": (["i", r"\sqrt{-1}", "e^{i\\pi/2}"], ["-i", "1", "2i"]),
    r"\frac{2-i}{5}": ([r"\frac{1}{2+i}", "0.4-0.2i", r"\frac25 - \frac{i}{5}"], [r"\frac{2+i}{5}", r"\frac{2}{5}"]),
    "e^{i\\pi/3}": ([r"\frac{1}{2}+\frac{\sqrt{3}}{2}i", r"\cos\frac{\pi}{3}+i\sin\frac{\pi}{3}"], [r"\frac{1}{2}", "e^{-i\\pi/3}"]),
    r"\frac{2}{5} \pm \frac{\sqrt{3}}{5} i": ([r"\frac{2+i\sqrt3}{5}, \frac{2-i\sqrt3}{5}"], [r"\frac{2}{5} + \frac{\sqrt{3}}{5} i"]),
}
LISTS = {
    "1,-2": (["1, -2", "-2,1", r"\{1,-2\}", "-2 and 1", "1 or -2", "x=1, x=-2", "x = 1 or x = -2", "{1, -2}", "$1$ and $-2$",
              r"\(1\) and \(-2\)", "$x=1$ or $x=-2$", r"x = 1 \text{ or } x = -2", "x=-2, 1", r"x \in \{1,-2\}"],
             ["1", "-2", "1,2", "1,-2,3", "1,1,-2", "1,1", "(1,-2)", "[-2,1]", "1-2", "-2,-1,0,1,2", "x=1, y=-2"]),
    r"1 \text{ and } -5": (["1, -5", "-5 and 1"], ["1", "1 and 5", "1-5"]),
    r"3 \pm 2 \sqrt{2}": ([r"3+2\sqrt{2}, 3-2\sqrt{2}", r"3 - \sqrt8, 3 + \sqrt8", r"x = 3 \pm 2\sqrt{2}"],
                          [r"3+2\sqrt{2}", r"2 \pm 3\sqrt{2}", r"3 \pm \sqrt{2}"]),
    r"\{1\pm\sqrt{5},-2\}": ([r"-2, 1+\sqrt5, 1-\sqrt5", r"\{-2, 1-\sqrt{5}, 1+\sqrt{5}\}"], [r"1 \pm \sqrt5", r"-2, 1+\sqrt5, 1+\sqrt5"]),
    r"\pm 3": (["3, -3", "-3 and 3", r"x = \pm 3"], ["3", "-3", "3,3"]),
    r"\{-1, 1, 1\}": (["-1,1,1", r"\{1,-1,1\}"], ["-1,1", "-1,-1,1"]),
    "x = 2, y = 3": (["y = 3, x = 2", "x=2 and y=3"], ["x = 3, y = 2", "x = 2", "2,3,"]),
}
POINTS = {
    "(1,2)": (["(1, 2)", r"\left(1, 2\right)", r"\left( 1,\, 2 \right)", "(x,y) = (1,2)", "(1.0, 4/2)"],
              ["(2,1)", "[1,2]", "(1,2]", r"\{1,2\}", "1,2", "(1,2,3)", "(1)", "(1,2),(1,2)", "(1;2)", "12"]),
    r"\left( 3, \frac{\pi}{2} \right)": (
        ["(3, pi/2)", r"(3,\pi/2)", r"(r,\theta)=(3,\frac{\pi}{2})", "(3, 90°)"],
        [r"(\frac{\pi}{2},3)", "(3, 1.5708)", "(3, 90)", r"[3,\frac{\pi}{2}]"]),
    "(5,2), (2,5)": (["(2,5),(5,2)", r"\{(5,2),(2,5)\}"], ["(5,2)", "(5,2),(5,2)", "(5,2,2,5)", "5,2,2,5", "((5,2),(2,5))"]),
    "(1+i, 2)": (["(i+1, 2)"], ["(1-i, 2)", "(2, 1+i)"]),
    "(100,200)": (["(100, 200)", "(100,200)"], ["100200", "(100200)", "(200,100)"]),
}
INTERVALS = {
    "[2,5)": ([r"\left[2,5\right)", "[2, 5)", "2 \\le x < 5", "2<=x<5", "5 > x >= 2", r"x \in [2,5)"],
              ["(2,5)", "[2,5]", "(2,5]", "[2,6)", "2<x<5", r"\{2,5\}", "2 \\leq x \\leq 5", "x<5", "[2,5)\\cup(5,6)"]),
    r"(-\infty, 2) \cup (3, \infty)": (
        [r"(3,\infty)\cup(-\infty,2)", "x<2 or x>3", r"x \in (-\infty,2)\cup(3,\infty)", "(-oo,2) ∪ (3,oo)"],
        [r"(-\infty,2)", r"(-\infty,2]\cup(3,\infty)", "x<2, x>3", "x<2 and x>3", r"(2,3)", r"(-\infty,2)\cap(3,\infty)",
         r"(-\infty 4,2)\cup(3,\infty)", r"(-\infty,2)\cup(3,\infty+1)"]),
    "x > 3": (["x>3", "3 < x", r"(3,\infty)", r"x \in (3, \infty)", r"x \gt 3"],
              ["x<3", "x>=3", "3", "x=3", "2x+1>7", "2x > 6", "y > 3", "[3,\\infty)"]),
    r"x \in [-2,7]": (["[-2,7]", "[-2, 7]", r"-2 \le x \le 7", "−2≤x≤7"], ["(-2,7)", "[2,7]", "-2,7", "x = [-7,2]"]),
    r"\mathbb{R}": ([r"(-\infty,\infty)", r"x \in \mathbb{R}"], [r"(0,\infty)", r"[-\infty,\infty]", "R"]),
}
RELATIONS = {
    "x=5": (["5", "x=5", "x = 5.0", "$x=5$", "+5"], ["y=5", "x=4", "2x=10", "2x+3=13", "x^2=25", "x=2+3", "5=x=5", "x^2-10x+25=0"]),
    "y = 2x + 3": (["y=2x+3", "2x+3", "y = 3+2x", "2x - y + 3 = 0", "y - 3 = 2x", "f(x) = 2x+3"],
                   ["y=2x-3", "y=3x+2", "x = 2y+3", "y=2x+3=0", "2x+y+3=0"]),
    "5x - 7y + 11z + 4 = 0": (["5x-7y+11z+4=0", "5x-7y+11z=-4", "-5x+7y-11z-4=0"], ["5x-7y+11z=4", "5x-7y+11z+4", "5x-7y+11z+4<0", "0=0"]),
    r"\frac{x^2}{9}+\frac{y^2}{4}=1": (
        ["4x^2+9y^2=36", r"\frac{y^2}{4}+\frac{x^2}{9}=1"],
        [r"\frac{x^2}{4}+\frac{y^2}{9}=1", "4x^2+9y^2=1", "1=1"]),
    "x^2+1=0": (["1+x^2=0", "x^2=-1"], ["x^2+2=0", "x^2+1", "0=0", "1=0", "(x+1)^2=x^2+2x+1", "x=x"]),
    "x+y < 1": (["y+x<1", "1 > x+y", "2x+2y<2"], ["x+y>1", "x+y<=1", "-x-y<-1", "x<1-y, 1"]),
    r"x \neq 2": (["x != 2", "x≠2", "2 \\neq x"], ["x=2", r"x \neq 3", "2"]),
    "f^{-1}(x) = \\frac{x-1}{2}": ([r"\frac{x-1}{2}", "(x-1)/2", "y = (x-1)/2"], [r"\frac{x+1}{2}", "2x+1"]),
}
MATRICES = {
    r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}": (
        [r"\begin{pmatrix}-\frac13\\\frac23\end{pmatrix}", r"\begin{bmatrix} -1/3 \\ 2/3 \end{bmatrix}",
         r"\begin{pmatrix} -1/3 \\ 2/3 \\ \end{pmatrix}"],
        [r"\begin{pmatrix} -1/3 & 2/3 \end{pmatrix}", "(-1/3, 2/3)", "-1/3, 2/3", r"\begin{pmatrix} 2/3 \\ -1/3 \end{pmatrix}",
         r"\begin{pmatrix} -1/3 \\ 0.6667 \end{pmatrix}"]),
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}": (
        [r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 2^2 \end{bmatrix}"],
        [r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2&3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\\5&6\end{pmatrix}",
         r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"]),
}
TEXTS = {
    r"\text{(C)}": (["C", "(C)", "c", "C.", "C)", r"\text{C}", r"\textbf{(C)}"], ["B", "(A) (C)", "CC", "A, C", "C or D", "С", "3"]),
    "E": (["E", "(E)", "e"], ["F", "2.718", "E E"]),
    r"\text{Evelyn}": (["Evelyn", "evelyn", r"\text{Evelyn}", r"\boxed{\text{Evelyn}}", "Evelyn."],
                       ["Eve", "Evelyn and Tom", "nyleve", "Evelynn", "Evelyn Evelyn"]),
    "Kate": (["kate"], ["\u212aate", "Kаte"]),
    "no solution": (["No solution", r"\text{no solution}", "no  solution."], ["solution", "none", "no", "yes"]),
    r"\text{June 20}": (["June 20", "june 20"], ["20", "June", "June 21", "July 20", "20 enuJ"]),
    "10:30 \\text{ a.m.}": (["10:30 a.m.", "10:30 am", "10:30 AM"], ["10:30 p.m.", "10:03 am", "10", "10.5"]),
    "3:4": (["3:4", "3 : 4"], ["4:3", "3,4", "6:8:1", "34"]),
    r"\infty": ([r"\infty", "∞", "inf", "infinity"], [r"-\infty", "0", "8", "oo8"]),
    r"\emptyset": (["∅", r"\varnothing", r"\{\}"], ["0", r"\{0\}", r"\{\emptyset\}"]),
    r"\text{no}": (["no", "No"], ["on", "yes", "n"]),
}
CASES = {gold: pair for table in (INTEGERS, DECIMALS, FRACTIONS, UNITS, RADICALS, CONSTANTS, POLYNOMIALS, COMPLEX, LISTS, POINTS,
                                  INTERVALS, RELATIONS,
                                  MATRICES, TEXTS) for gold, pair in table.items()}


@pytest.mark.parametrize("gold", CASES)
def test_answers_are_right_or_wrong(gold: str) -> None:
    right, wrong = CASES[gold]
    assert [(answer, verdict) for answer in [gold, *right] if not (verdict := examine(gold=gold, answer=answer)).right] == []
    assert [(answer, verdict) for answer in wrong if (verdict := examine(gold=gold, answer=answer)).right] == []
    assert all(examine(gold=gold, answer=answer).why for answer in wrong)


def test_there_are_enough_of_both() -> None:
    assert sum(len(right) for right, _ in CASES.values()) >= 300 and sum(len(wrong) for _, wrong in CASES.values()) >= 400


def test_equality_has_a_direction() -> None:
    assert grade(gold="x = 5", answer="5") and grade(gold="5", answer="x = 5")
    assert grade(gold="12 \\text{ marbles}", answer="12") and not grade(gold="12", answer="12 marbles")
    with pytest.raises(TypeError):
        grade("5", "5")


def test_a_long_answer_is_not_looked_at() -> None:
    longest = "x+1" + "+0" * ((LONGEST - 3) // 2)
    assert grade(gold="x+1", answer=longest + " " * (LONGEST - len(longest)))
    for answer in (longest + " " * LONGEST, "7" + " " * LONGEST, "x" * 10**6):
        assert examine(gold="x+1", answer=answer).why == f"it has more than {LONGEST} characters"


@pytest.mark.parametrize(("why", "answers"), {
    "is not read": [r"\sum x", r"x^2+\mathrm", r"\int_0^1 x dx", r"\gamma!\Gamma"],
    "signs that no answer needs": ["x^2+1'", "x^2;1", "x^2+1#", "x^2+1?", "x:1", "x²+1@"],
    "the gold knows no": ["y", "x^2+a", "import x", r"\text{cheat} x^2+1", "X^2+1"],
    "where none are read": ["x^2+1_9", "x^2+2 _{3}", "x^2+1.2.3", "x^2+1..2"],
    "cannot be told apart": ["x^2+2 3", "1 1x^2", "x^2 + 1 000"],
    "nested too deep": ["(" * 11 + "x" + ")" * 11, "{" * 11 + "x" + "}" * 11, "((([[[{{{(((x"],
    "power of it is too high": ["x^{10000}", "x^{x^{x}}", "9^{9^{9}}", "2^{2^{3}}", "x^{9!}", "x^{x^{99}}", "e^{e^{e^{x}}}", "x^{-99999}"],
    "too many powers, or too high ones": ["x^2" * 16, "(((x+1)^{99})^{99})^{99}", "((x+1)^{999})^{99}", "{x^{99}}^{99}^{99}", "x^{2}^{3}"],
    "factorial of it is too large": ["10000!", "x!!", "((9)!)!", "(10^{3})!", "(9)!", "1.5!", r"\binom{10000}{x}", r"\binom{x^2}{x}",
                                     "x!x!x!x!x!", "(x^{99})!", r"\lfloor x \rfloor!", "|x|!", r"\sqrt{x}!"]}.items())
def test_what_sympy_is_not_shown(why: str, answers: list[str]) -> None:
    for answer in answers:
        verdict = examine(gold="x^2+1", answer=answer)
        assert (verdict.right, verdict.rule) == (False, "screen") and why in verdict.why, (answer, verdict)


def test_what_is_written_with_powers_and_factorials_is_shown() -> None:
    for gold in ("x^{9999}", "e^{-x^2}", "2^{n^2}", "(2n)!", "9999!", r"\binom{2n}{n}", "(x+1)^{99}(x-1)^{98}", "n!m!k!",
                 "+".join(f"x^{{{n}}}" for n in range(2, 17)), r"\sqrt{1+\sqrt{1+\sqrt{1+\sqrt{2}}}}"):
        assert grade(gold=gold, answer=gold + "+0") and not grade(gold=gold, answer=gold + "+1")


def test_the_verdict_says_what_decided() -> None:
    assert [examine(gold=gold, answer=answer).rule for gold, answer in (
        ("7", ""), ("7", "7"), ("7", "8"), ("yes", "no"), ("x+1", "1 + x"), ("x+1", "x + 1"), ("x+1", "y"), ("x+1", "x+2"))] == [
        "none", "number", "number", "text", "algebra", "text", "screen", "algebra"]


# Golds

@pytest.mark.parametrize("gold", [
    "", "  ", None, 7, 7.0, ["7"], b"7", "1" * (LONGEST + 1), r"\sum_{n=1}^{10} n", r"\int x dx", "x + ", "(x+1", "x+1)", r"\frac{1}{",
    "x=", "=", "{", r"\begin{pmatrix}1\\2", r"\foo", "x^{T}", "A^T", r"\sin_{2} x", "2_3+x", "9^{9^{9}}", "x^{99999}", "((9)!)!", "?",
    "x\n\ny=1=", "0/0", r"\frac{x}{0}", "💥", "\x00", "x;y"])
def test_a_gold_that_nothing_could_be_compared_with_is_named(gold: object) -> None:
    with pytest.raises(R1Error) as caught:
        grade(gold=gold, answer="7")
    said = str(caught.value)
    assert repr(gold)[:30] in said and "\n" not in said and "mend the problem's row" in said.lower()


def test_a_gold_that_is_named_reaches_the_caller_of_the_reward() -> None:
    with pytest.raises(R1Error, match="'x \\+ '"):
        rewards.accuracy_reward(["<answer>7</answer>"] * 2, ["7", "x + "])


# Numbers, by arithmetic

def _written(value: Fraction, form: int) -> str:
    """A number in one of the ways people write it."""
    sign, size = ("-" if value < 0 else ""), abs(value)
    if value.denominator == 1:
        return (f"{value}", f"{value.numerator:,}", f"{sign}${size}", f"x = {value}", f"{value}.0", f"\\boxed{{{value}}}",
                f"${value}$.")[form % 7]
    if form % 2 and value.denominator in (2, 4, 5, 8, 10, 20, 25, 100):
        return f"{sign}{float(size)}"
    whole, rest = divmod(size.numerator, size.denominator)
    return (f"{value}", f"\\frac{{{value.numerator}}}{{{value.denominator}}}", f"{sign}\\dfrac{{{size.numerator}}}{{{size.denominator}}}",
            f"{sign}{whole} {rest}/{size.denominator}" if whole else f"{value}")[form % 4]


def test_ten_thousand_wrong_numbers_are_wrong_and_as_many_right_ones_right() -> None:
    import random
    chance, wrong = random.Random(0), 0
    for _ in range(14_000):
        gold = Fraction(chance.randrange(-10**chance.randrange(1, 8), 10**chance.randrange(1, 8)), chance.choice([1, 1, 1, 2, 3, 4, 7, 8,
                                                                                                                  10, 25, 100]))
        other = chance.choice([gold + 1, gold - 1, -gold, gold * 10, gold / 10, gold + Fraction(1, 10**9), gold * 1000,
                               Fraction(gold.numerator), gold + Fraction(1, 2),
                               Fraction(chance.randrange(-1000, 1000)), 1 / gold if gold else gold, gold * 100, gold / 100])
        forms = chance.randrange(100), chance.randrange(100)
        assert grade(gold=_written(gold, forms[0]), answer=_written(gold, forms[1]))
        if other != gold and (other.denominator == 1 or max(other.denominator, abs(other.numerator)) < 10**29):
            wrong += 1
            assert not grade(gold=_written(gold, forms[0]), answer=_written(other, forms[1])), (gold, other)
    assert wrong >= 10_000


def _read_slowly(answer: str) -> set[Fraction]:
    """Everything that a text of digits and -+./, $ could mean as a number, without regular expressions."""
    bare = answer.strip().removesuffix(".").strip()
    for around in ("$$", "$"):
        bare = bare.removeprefix(around).removesuffix(around).strip()
    bare = bare.removesuffix(".").replace("$", "").strip()
    negative = bare.startswith("-")
    bare = bare.removeprefix("-").removeprefix("+").strip().removeprefix("-")
    readings = set()
    for whole, rest in ((bare[:cut], bare[cut:]) for cut in range(len(bare) + 1)):
        try:
            digits = whole.strip()
            if "," in digits and f"{int(digits.split('.')[0].replace(',', '')):,}" != digits.split(".")[0].lstrip("0"):
                continue
            value = Fraction(digits.replace(",", "") or 0)
            top, _, bottom = rest.strip().partition("/")
            value += Fraction(int(top), int(bottom)) if rest.strip() else 0
            readings.add(-value if negative or answer.strip().startswith(("-", "$-", "$$-")) else value)
        except (ValueError, ZeroDivisionError):
            continue
    return readings


_CHANGES = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["", "", "00", *"0123456789-+./,$ "])), max_size=3)


@settings(max_examples=600, deadline=None)
@given(st.fractions(-2000, 2000, max_denominator=20), st.integers(0, 99), _CHANGES)
def test_a_changed_number_is_right_only_if_arithmetic_says_so(gold: Fraction, form: int, changes: list[tuple[int, str]]) -> None:
    answer = str(gold) if form % 2 else f"{gold.numerator:,}" if gold.denominator == 1 else f"{gold.numerator}/{gold.denominator}"
    for place, new in changes:
        answer = answer[:place] + new + answer[place + (form % 3 == 0):]
    if grade(gold=str(gold), answer=answer):
        assert gold in _read_slowly(answer)


# Anything at all

SOME_GOLDS = ("7", r"\frac{3}{4}", r"2\sqrt{3}", "x^2+1", "(1,2)", "1,-2", "y = 2x+3", "x > 3", "Evelyn", "(C)", "6-5i",
              r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}")
_JOINED = [*"+-*/=<>^_,!& |", r"\cdot ", r"\pm ", r"\cup ", r"\leq ", r"\in ", " or ", "**", r"\\"]
_AROUND = ["({})", "[{})", "{{{}}}", r"\{{{}\}}", r"\sqrt{{{}}}", r"\sqrt[3]{{{}}}", "|{}|", "-{}", "{}!", "x^{{{}}}", r"\boxed{{{}}}",
           "${}$", r"\sin {}", r"\ln({})", r"\text{{{}}}", r"\left({}\right)", r"\lfloor {} \rfloor",
           r"\begin{{pmatrix}}{}\end{{pmatrix}}", "({}", "{}.", "{}%", "x = {}"]
_OF_TWO = [r"\frac{{{}}}{{{}}}", r"\binom{{{}}}{{{}}}", "({}, {})", "{}^{{{}}}", r"\log_{{{}}} {}"]
_LATEX = st.recursive(
    st.sampled_from(["0", "1", "2", "7", "10", "0.5", "x", "y", "i", "e", r"\pi", r"\infty", "", "?", r"\foo", "\u0667"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(_JOINED), inner).map("".join),
        st.builds(lambda around, inside: around.format(inside), st.sampled_from(_AROUND), inner),
        st.builds(lambda around, first, second: around.format(first, second), st.sampled_from(_OF_TWO), inner, inner)),
    max_leaves=6)
_CHANGED = st.builds(lambda answer, place, new, dropped: answer[:place] + new + answer[place + dropped:],
                     st.sampled_from([answer for right, _ in CASES.values() for answer in right]), st.integers(0, 30),
                     st.sampled_from(["", *"0123456789(){}[],+-^_\\$ xyi.=<>!%'\n"]), st.integers(0, 3))


def _is_judged_alike(gold: str, answer: str) -> None:
    first = examine(gold=gold, answer=answer)
    assert first.right is (first.why == "")
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(examine(gold=gold, answer=answer)))
    thread.start()
    thread.join()
    assert elsewhere == [first]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SOME_GOLDS), st.text(max_size=40) | st.text(alphabet="0123456789+-*/^(){}[]\\., =xyi$%|&_!fracsqt", max_size=30))
def test_any_text_is_judged_and_judged_alike_twice(gold: str, answer: str) -> None:
    _is_judged_alike(gold, answer)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SOME_GOLDS), _LATEX)
def test_anything_like_latex_is_judged_and_judged_alike_twice(gold: str, answer: str) -> None:
    _is_judged_alike(gold, answer)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SOME_GOLDS), _CHANGED)
def test_a_changed_answer_is_judged_and_judged_alike_twice(gold: str, answer: str) -> None:
    _is_judged_alike(gold, answer)


@settings(max_examples=60, deadline=None)
@given(_LATEX)
def test_any_gold_is_read_or_named_and_equals_itself(gold: str) -> None:
    try:
        assert grade(gold=gold, answer=gold)
    except R1Error as named:
        assert "\n" not in str(named)


# The worker

ENDLESS = "9^{9^{9^{9}}}"                       # no answer gets that far, so these tests hand it to the worker themselves


def _compares(worker: mathematics.Worker) -> None:
    """The next questions are answered right: one of each verdict, so that a stale answer shows."""
    for wanted in (True, False, False, True):
        assert worker.compare("x+1", "1+x" if wanted else "x+2")[0] is wanted


@pytest.fixture(scope="module")
def shared_worker() -> Iterator[mathematics.Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mathematics, "SECONDS", 0.4)
        started = mathematics.Worker()
        _compares(started)
        yield started
        started.stop()


@pytest.fixture
def worker(shared_worker: mathematics.Worker) -> mathematics.Worker:
    """A worker as the last test left it, with its counts at 0."""
    shared_worker.graded = shared_worker.timeouts = shared_worker.starts = 0
    return shared_worker


def _processes(worker: mathematics.Worker) -> list[int]:
    """The process that starts up, and its child that compares."""
    _compares(worker)
    parent, worker.starts = worker._process.pid, 0
    return [parent, *map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]


def _is_gone(process: int, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_that_is_killed_between_two_questions_is_replaced(worker: mathematics.Worker, which: int) -> None:
    victim = _processes(worker)[which]
    os.kill(victim, signal.SIGKILL)
    _compares(worker)
    assert _is_gone(victim)
    _compares(worker)
    assert worker.starts == 1


@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_that_is_killed_during_a_question_is_replaced(worker: mathematics.Worker, which: int) -> None:
    victim = _processes(worker)[which]
    said: list = []
    thread = threading.Thread(target=lambda: said.append(worker.compare("x", ENDLESS)))
    thread.start()
    time.sleep(0.2)
    os.kill(victim, signal.SIGKILL)
    thread.join()
    assert said[0][0] is False and worker.starts == 1
    _compares(worker)


def test_a_question_that_never_ends_is_stopped_and_its_successor_is_there_at_once(worker: mathematics.Worker) -> None:
    right, why = worker.compare("x", ENDLESS)
    assert not right and "more than" in why and worker.timeouts == 1
    _compares(worker)
    assert worker.starts == 0


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as a person's: a shell starts what it sends to the background with interrupts ignored, and Python leaves it at that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_no_verdict_behind(worker: mathematics.Worker) -> None:
    for _ in range(2):
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            worker.compare("x", ENDLESS)
            time.sleep(30)
        _compares(worker)


def test_a_verdict_of_another_question_is_not_taken(worker: mathematics.Worker) -> None:
    _compares(worker)
    worker._process.stdin.write(json.dumps({"id": -1, "gold": "x", "answer": "x"}).encode() + b"\n")
    select.select([worker._process.stdout], [], [], 20)
    assert worker.compare("x", "2x")[0] is False
    _compares(worker)


@pytest.mark.parametrize("bomb", ["2^{99999999999}", r"\binom{9999999999}{99999}", "9^{9^{9}}"])
def test_memory_is_bounded(worker: mathematics.Worker, bomb: str) -> None:
    assert worker.compare("x", bomb)[0] is False
    limits = Path(f"/proc/{_processes(worker)[1]}/limits").read_text()
    assert re.search(r"Max address space +1073741824 ", limits)


def test_timeouts_are_counted_and_logged_ever_more_rarely(worker: mathematics.Worker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            worker.compare("x", ENDLESS)
    assert (worker.timeouts, worker.graded, worker.starts) == (5, 5, 0)
    assert [re.search(r"time-out (\d+)", record.getMessage())[1] for record in caplog.records] == ["1", "2", "4"]


def test_a_worker_that_does_not_start_is_named(worker: mathematics.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    worker.stop()
    with pytest.raises(R1Error, match="does not start"):
        worker.compare("x", "x")


def test_a_worker_that_says_nothing_is_given_up(worker: mathematics.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    child = _processes(worker)[1]
    monkeypatch.setattr(mathematics, "_HANGS", 2.0)
    os.kill(child, signal.SIGSTOP)
    assert worker.compare("x", "x")[0] is True and worker.starts == 1
    assert _is_gone(child)


def test_eight_threads_get_their_own_verdicts(worker: mathematics.Worker) -> None:
    """Two of them ask what never ends: the others wait for it, and are answered right."""
    pairs = [(f"x+{n}", f"{m}+x") for n in range(6) for m in range(6)]
    pairs[5] = pairs[20] = ("x", ENDLESS)
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda pair: worker.compare(*pair)[0], pairs))
    assert verdicts == [gold.removeprefix("x+") == answer.removesuffix("+x") for gold, answer in pairs] and worker.timeouts == 2


def _run(program: str, folder: Path, **how: object) -> subprocess.CompletedProcess:
    """A program of its own in this folder, which has r1lib by name."""
    (folder / "program.py").write_text(textwrap.dedent(program))
    return subprocess.run([sys.executable, "-P", "program.py"], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, timeout=120, **how)


def test_a_forked_process_has_a_worker_of_its_own(tmp_path: Path) -> None:
    ran = _run("""
        import os
        from r1lib.rewards import grade, mathematics
        assert grade(gold="x+1", answer="1+x")
        parents = mathematics.WORKER._process
        child = os.fork()
        if not child:
            right = grade(gold="x+1", answer="1+x") and not grade(gold="x+1", answer="2+x")
            own = mathematics.WORKER._process.pid != parents.pid
            mathematics.WORKER.stop()
            os._exit(0 if right and own else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert parents.poll() is None and mathematics.WORKER._process is parents
        assert grade(gold="x+1", answer="1+x") and not grade(gold="x+1", answer="2+x") and mathematics.WORKER.starts == 1
        """, tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_no_worker_outlives_its_parent(tmp_path: Path, end: str) -> None:
    ran = _run(f"""
        import os, sys
        from pathlib import Path
        from r1lib.rewards import grade, mathematics
        grade(gold="x+1", answer="1+x")
        parent = mathematics.WORKER._process.pid
        print(parent, Path(f"/proc/{{parent}}/task/{{parent}}/children").read_text(), flush=True)
        {end}
        """, tmp_path)
    processes = list(map(int, ran.stdout.split()))
    assert len(processes) == 2 and all(map(_is_gone, processes))


_CLOSED = {"preexec_fn": lambda: os.close(0)}


@pytest.mark.parametrize("how", [{}, {"stdin": subprocess.DEVNULL}, _CLOSED], ids=["stdin", "no stdin", "stdin closed"])
def test_files_of_the_callers_folder_and_its_stdin_do_not_matter(tmp_path: Path, how: dict) -> None:
    for name in ("math_verify", "sympy", "json", "r1lib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong file')")
    ran = _run("""
        from r1lib.rewards import grade
        assert grade(gold="x+1", answer="1+x") and not grade(gold="x+1", answer="2+x")
        """, tmp_path, **how)
    assert ran.returncode == 0, ran.stderr
