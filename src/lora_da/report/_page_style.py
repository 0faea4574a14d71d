"""The looks of a report's page and pictures: no script, no font and no colour from elsewhere."""

PICTURE_STYLE = """
.lora-da { max-width: 70rem; }
svg { max-width: none; font: 11px system-ui, sans-serif; color: inherit; }
svg text { fill: currentColor; }
svg .small { font-size: 10px; }
svg .name { font-weight: 600; }
.heat, .dot { fill: var(--accent, #2f7fc1); }
.curve { fill: none; stroke: var(--accent, #2f7fc1); stroke-width: 1.6; }
.band { fill: var(--accent, #2f7fc1); fill-opacity: .22; }
.edge { stroke: var(--poor, #c4453f); stroke-width: 1.2; stroke-dasharray: 4 3; }
.grid { stroke: currentColor; stroke-opacity: .16; }
.mark { fill: none; stroke: currentColor; stroke-width: 1.2; }
.panels { display: flex; flex-wrap: wrap; gap: .6rem 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; }
dt.good::before { content: "✓ "; }
dt.fair::before { content: "! "; }
dt.poor::before { content: "✗ "; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""

PAGE_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c1d1f; --paper: #ffffff; --line: #c9ccd1; --accent: #0b62a8;
  --good: #14663a; --fair: #7a5200; --poor: #a3161c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e7e9; --paper: #15171a; --line: #44484e; --accent: #74b9f3;
    --good: #83d8a4; --fair: #f0c264; --poor: #ff9d96;
  }
}
body {
  font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 100rem; margin: 0 auto; padding: 0 1rem 3rem;
}
h1 { overflow-wrap: anywhere; margin-bottom: 0; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 44rem), 1fr)); gap: 0 3rem; }
section { min-width: 0; }
#spectra, #layers { grid-column: 1 / -1; }
p, dl { max-width: 50rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; border-block: 1px solid var(--line); padding: .5rem 0; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); }
.todo { border-left: 4px solid var(--accent); padding-left: .7rem; }
.good { color: var(--good); } .fair { color: var(--fair); } .poor { color: var(--poor); }
.scroll { overflow-x: auto; margin: 1rem 0; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .7rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; font-weight: 400; }
thead th, thead th:first-child { font-weight: 600; }
summary { cursor: pointer; }
"""
