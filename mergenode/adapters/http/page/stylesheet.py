"""The one style sheet of the page. It stands inline; the content security policy knows it by its digest.

Colours are variables, once for light and once for dark. Warm means: look here. Every pair of text and ground that is
named below has a contrast of at least 4.5 (WCAG 2.2, 1.4.3), which a test computes.
"""

from __future__ import annotations

_LIGHT = """
  --paper: #f6f7f9; --card: #ffffff; --ink: #1b2430; --soft: #56616f; --edge: #dde2e8; --grid: #e6eaef;
  --link: #1d5fb8; --good: #17703a; --look: #8a5200; --bad: #b3261e; --good-ground: #e3f3e8; --look-ground: #fdf0d9;
  --bad-ground: #fbe5e3; --c0: #1d5fb8; --c1: #b35300; --c2: #17703a; --c3: #a83279; --c4: #00718f; --c5: #6b5b00;
  --h0: #9a3412; --t0: #ffffff; --h1: #c2410c; --t1: #ffffff; --h2: #fdba74; --t2: #3b1d05; --h3: #ffedd5;
  --t3: #3b2a14; --h4: #eef1f4; --t4: #3a434e; --h5: #dbeafe; --t5: #172a46; --h6: #93c5fd; --t6: #0b2545;
  --h7: #2563eb; --t7: #ffffff; --h8: #1e3a8a; --t8: #ffffff;
"""
_DARK = """
  --paper: #10141a; --card: #181e26; --ink: #e4e9ef; --soft: #9fabb8; --edge: #2c3541; --grid: #27303b;
  --link: #7fb6ff; --good: #6fd093; --look: #f0b34c; --bad: #ff8f85; --good-ground: #16301f; --look-ground: #33270f;
  --bad-ground: #3a1a18; --c0: #7fb6ff; --c1: #f29b4b; --c2: #6fd093; --c3: #f08cc6; --c4: #5cc8e0; --c5: #d9c75a;
  --h0: #ff9a4d; --t0: #1a0f05; --h1: #d97029; --t1: #1a0f05; --h2: #7c3f16; --t2: #ffffff; --h3: #46291a;
  --t3: #f3d9c4; --h4: #252c35; --t4: #b6c0cb; --h5: #1b3350; --t5: #cfe3fb; --h6: #1f4d85; --t6: #e6f1ff;
  --h7: #4f94d8; --t7: #06121f; --h8: #9accff; --t8: #06121f;
"""
_HEAT = "".join(f".h{step} {{ background: var(--h{step}); color: var(--t{step}); }}\n" for step in range(9))
_LINES = "".join(f".c{place} {{ --line: var(--c{place}); }}\n" for place in range(6))

STYLESHEET = f"""
:root {{ color-scheme: light dark;{_LIGHT}}}
@media (prefers-color-scheme: dark) {{ :root {{{_DARK}}} }}
* {{ box-sizing: border-box; }}
html {{ scroll-padding-top: 3.5rem; -webkit-text-size-adjust: 100%; }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Noto Sans", "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }}
header {{ position: sticky; top: 0; z-index: 2; display: flex; gap: .25rem 1.5rem; align-items: baseline;
  padding: .6rem max(1rem, calc(50vw - 38rem)); background: var(--card); border-bottom: 1px solid var(--edge); }}
header h1 {{ margin: 0; font-size: 1.05rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
  min-width: 5rem; }}
header h1 span {{ color: var(--soft); font-weight: 400; }}
header nav {{ display: flex; gap: 1rem; overflow-x: auto; white-space: nowrap; scrollbar-width: none; }}
main, footer {{ max-width: 78rem; margin: 0 auto; padding: 0 1rem; }}
section {{ background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 1rem 1.1rem;
  margin: 1rem 0; }}
h2 {{ margin: 0 0 .5rem; font-size: 1.05rem; }}
h3 {{ margin: 1.1rem 0 .3rem; font-size: .95rem; }}
p {{ margin: .3rem 0; }}
a {{ color: var(--link); text-decoration: none; }}
a:hover, a:focus-visible {{ text-decoration: underline; }}
:focus-visible {{ outline: 2px solid var(--link); outline-offset: 2px; border-radius: 3px; }}
:target {{ scroll-margin-top: 4rem; }}
code {{ white-space: nowrap; font: .88em ui-monospace, "DejaVu Sans Mono", monospace; }}
.note, .none, caption, small, time {{ color: var(--soft); }}
.note {{ font-size: .87rem; max-width: 62rem; }}
.next {{ display: block; color: var(--soft); }}
.next::before {{ content: "→ "; }}
.state {{ display: flex; align-items: center; gap: .6rem; font-size: 1.35rem; margin-bottom: .4rem; }}
.state::before {{ content: ""; width: .75rem; height: .75rem; border-radius: 50%; background: currentColor; }}
.good {{ color: var(--good); }} .look {{ color: var(--look); }} .bad {{ color: var(--bad); }}
.matters {{ list-style: none; margin: .6rem 0; padding: 0; display: grid; gap: .4rem; }}
.matters li {{ padding: .45rem .7rem; border-left: 3px solid currentColor; border-radius: 4px; }}
.matters .bad {{ background: var(--bad-ground); }} .matters .look {{ background: var(--look-ground); }}
.matters a, .matters span:first-child {{ color: inherit; font-weight: 600; }}
.matters .next {{ color: var(--ink); }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: .8rem 0; }}
.tiles div {{ border: 1px solid var(--edge); border-radius: 8px; padding: .5rem .7rem; }}
.tiles dt {{ color: var(--soft); font-size: .82rem; }}
.tiles dd {{ margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.35; }}
.tiles small {{ display: block; font-size: .78rem; font-weight: 400; }}
.running p {{ margin: 0; }} .running small {{ display: block; }}
progress {{ width: 100%; height: .6rem; margin: .4rem 0 0; accent-color: var(--link); }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
caption {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0;
  border-bottom: 1px solid var(--grid); }}
thead th {{ color: var(--soft); font-size: .82rem; font-weight: 500; white-space: nowrap; overflow-wrap: normal; }}
tbody th {{ font-weight: 600; }}
tbody tr:last-child > * {{ border-bottom: 0; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.n + :not(.n) {{ padding-left: 1.2rem; }}
time {{ white-space: nowrap; font-variant-numeric: tabular-nums; font-size: .87rem; font-weight: 400; }}
.badge {{ display: inline-block; padding: 0 .5rem; border-radius: 1rem; border: 1px solid currentColor;
  font-size: .76rem; font-weight: 500; color: var(--soft); white-space: nowrap; }}
.badge.good {{ color: var(--good); }} .badge.look {{ color: var(--look); }} .badge.bad {{ color: var(--bad); }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1rem 1.5rem; }}
figure {{ margin: 0; min-width: 0; }}
figcaption {{ display: flex; justify-content: space-between; gap: 1rem; font-size: .92rem; font-weight: 600; }}
figcaption b {{ color: var(--c0); font-variant-numeric: tabular-nums; white-space: nowrap; }}
figure .note {{ margin: 0; font-size: .8rem; }}
svg {{ display: block; width: 100%; height: auto; }}
svg text {{ fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }}
svg .end {{ text-anchor: end; }}
svg .grid {{ stroke: var(--grid); }} svg .zero {{ stroke: var(--soft); }}
svg path {{ fill: none; stroke: var(--line); stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }}
svg .dot {{ fill: var(--line); }}
svg .hit {{ fill: var(--line); opacity: 0; }} svg .hit:hover {{ opacity: .35; }}
{_LINES}.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: 0; padding: 0;
  font-size: .82rem; }}
.key {{ display: inline-block; width: .8rem; height: .25rem; margin-right: .35rem; vertical-align: middle;
  border-radius: 2px; background: var(--line); }}
.timeline {{ list-style: none; margin: .6rem 0 0 .3rem; padding: 0; border-left: 2px solid var(--edge); }}
.timeline > li {{ position: relative; padding: 0 0 .9rem 1.1rem; display: grid; gap: 0 1.5rem;
  grid-template-columns: minmax(17rem, 24rem) minmax(0, 1fr); }}
.timeline > li::before {{ content: ""; position: absolute; left: -.4rem; top: .45rem; width: .65rem; height: .65rem;
  border-radius: 50%; background: var(--link); border: 2px solid var(--card); }}
.timeline > .waiting::before {{ background: var(--card); border-color: var(--look); }}
.timeline h3 {{ margin: 0; display: flex; flex-wrap: wrap; gap: .2rem .6rem; align-items: center; }}
.measures {{ color: var(--soft); font-size: .87rem; margin: 0; }}
.how {{ margin: .1rem 0; font-weight: 600; color: var(--look); }}
.names {{ list-style: none; margin: .15rem 0; padding: 0; font-size: .9rem; }}
.names li {{ padding-left: 1.1rem; position: relative; color: var(--soft); }}
.names b {{ color: var(--ink); font-weight: 600; }}
.names li::before {{ position: absolute; left: 0; }}
.came li::before {{ content: "+"; color: var(--good); }} .left li::before {{ content: "\\2212"; color: var(--bad); }}
details summary {{ cursor: pointer; color: var(--link); padding: .3rem 0; }}
.switch {{ display: flex; flex-wrap: wrap; gap: .4rem; margin: .5rem 0; font-size: .87rem; }}
.switch a {{ padding: .15rem .7rem; border: 1px solid var(--edge); border-radius: 1rem; }}
.switch a[aria-current] {{ background: var(--link); border-color: var(--link); color: var(--card); }}
.scale {{ display: inline-block; margin: .3rem 0 .6rem; font-size: .8rem; color: var(--soft); max-width: 100%; }}
.scale div {{ display: flex; justify-content: space-between; gap: 1rem; }}
.swatches {{ display: flex; }} .swatches i {{ flex: 1; height: .7rem; min-width: 1.9rem; }}
.wide {{ overflow-x: auto; }}
.heat {{ width: auto; border-collapse: separate; border-spacing: 1px; font-size: .72rem; line-height: 1.5; }}
.heat th, .heat td {{ border: 0; padding: 0 .2rem; }}
.heat thead th {{ padding: 0; vertical-align: bottom; }}
.heat thead span {{ writing-mode: vertical-rl; transform: rotate(180deg); max-height: 8.5rem; overflow: hidden;
  margin: 0 auto; text-overflow: ellipsis; white-space: nowrap; font-size: .72rem; display: block; }}
.heat tbody th {{ position: sticky; left: 0; background: var(--card); white-space: nowrap; font-weight: 500;
  padding-right: .6rem; max-width: 13rem; overflow: hidden; text-overflow: ellipsis; }}
.heat td {{ text-align: center; min-width: 1.5rem; font-variant-numeric: tabular-nums; border-radius: 2px;
  overflow-wrap: normal; }}
{_HEAT}footer {{ color: var(--soft); font-size: .85rem; padding-bottom: 2rem; }}
@media (max-width: 60rem) {{
  main, footer {{ padding: 0 .6rem; }}
  section {{ padding: .8rem .8rem; margin: .6rem 0; }}
  header {{ display: block; position: static; padding: .5rem .9rem; }}
  header nav {{ flex-wrap: wrap; gap: .1rem 1rem; }}
  .tiles {{ grid-template-columns: 1fr 1fr; }}
  .timeline > li {{ grid-template-columns: minmax(0, 1fr); }}
  .cards thead {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
  .cards, .cards tbody, .cards tr, .cards th, .cards td {{ display: block; width: 100%; padding: 0; border: 0;
    text-align: left; white-space: normal; }}
  .cards tbody tr {{ padding: .5rem 0; border-bottom: 1px solid var(--grid); }}
  .cards td {{ display: grid; grid-template-columns: 7.5rem minmax(0, 1fr); gap: .5rem; }}
  .cards td::before {{ content: attr(data-label); color: var(--soft); font-size: .85rem; }}
  .cards td:empty {{ display: none; }}
  .cards .n + td {{ padding-left: 0; }}
  .heat tbody th {{ max-width: 7rem; }}
}}
@media print {{ header {{ position: static; }} section {{ break-inside: avoid; }} }}
"""
