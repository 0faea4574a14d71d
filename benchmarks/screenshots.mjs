// Screenshots of a page in headless Chromium, at three widths, light and dark, each checked by axe-core.
//
//     npm install playwright-core axe-core       # and a Chromium, such as that of @sparticuz/chromium
//     node benchmarks/screenshots.mjs CHROMIUM PAGE.html OUT
//
// writes OUT-390-light.png and so on, whole pages, and OUT.png, the first screen at 1280 pixels. It ends with 1 where
// axe-core finds something serious, or a page is wider than its window.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [executablePath, page_file, out] = process.argv.slice(2);
const require = createRequire(resolve("package.json")); // from where the command is given
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--no-zygote"] });
let bad = 0;
for (const width of [390, 1280, 2560]) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    await page.goto(pathToFileURL(resolve(page_file)).href);
    if (width === 1280 && colorScheme === "light") await page.screenshot({ path: `${out}.png` });
    await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await page.screenshot({ path: `${out}-${width}-${colorScheme}.png`, fullPage: true });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document));
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const named = violations.map(({ id, impact, nodes }) => `${id} (${impact}, ${nodes.length})`);
    console.log(`${width} ${colorScheme}: ${named.join(", ") || "no finding"}${wider > 0 ? `, ${wider} pixels too wide` : ""}`);
    bad += serious.length + (wider > 0);
    await page.close();
  }
}
await browser.close();
process.exit(bad ? 1 : 0);
