// Journeys through the dashboard in a real Chromium. `node journeys.mjs NAME`; what it needs is in the environment, see
// tests/tests/browser/world.rs. It says nothing and ends with 0, or says what is wrong.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

const need = createRequire(`${process.env.C360_MODULES}/`);
const { chromium } = need("playwright-core");
const axeSource = readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");

const { C360_URL: url, C360_KEY: key, C360_PICTURES: pictures } = process.env;
const MATTHEW = "Matthew Groves";
const SIZES = { desktop: { width: 1360, height: 900 }, phone: { width: 390, height: 844 } };

const browser = await chromium.launch({
  executablePath: process.env.PATH.split(":").map((directory) => `${directory}/chromium`).find(existsSync),
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

async function open(options = {}) {
  const context = await browser.newContext({ viewport: SIZES.desktop, locale: "en-GB", baseURL: url, ...options });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  // What the policy of the pages forbids, or a script does wrong, is a failure of the journey.
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`${error}`));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("request", (request) => request.url().startsWith(url) || wrong.push(`asks for ${request.url()}`));
  return { page, wrong };
}

async function signIn(page) {
  await page.goto("/");
  assert.equal(new URL(page.url()).pathname, "/sign-in");
  await page.getByLabel("Access key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL("**/customers");
}

const picture = (page, name, fullPage = false) => page.screenshot({ path: `${pictures}/${name}.png`, fullPage });

async function notes(page, submit) {
  await submit("Note", "Order 3 arrived broken. **Wants a new one** by Tuesday.");
  await page.getByRole("status").filter({ hasText: "Note added." }).waitFor();
  assert.equal(await page.locator(".prose strong").textContent(), "Wants a new one");

  await page.locator(".day .own a").first().click();
  await page.getByLabel("Note").fill("Order 3 arrived broken. Sent a new one.");
  await page.getByRole("button", { name: "Save note" }).click();
  await page.getByText("Note changed.").waitFor();
  await page.getByText("Sent a new one.").waitFor();

  await page.locator(".day .own button").first().click();
  await page.getByText("Note deleted.").waitFor();
  assert.equal(await page.getByText("Sent a new one.").count(), 0);
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByText("Last change undone.").waitFor();
  await page.getByText("Sent a new one.").waitFor();
}

const journeys = {
  async agent() {
    const { page, wrong } = await open();
    await signIn(page);
    const search = page.getByRole("searchbox");
    assert(await search.evaluate((field) => field === document.activeElement), "the search field has focus");
    // With a typing error, and without Enter.
    await page.keyboard.type("mathew grov", { delay: 20 });
    await page.locator(".rows .best", { hasText: MATTHEW }).waitFor();
    assert.match(await page.locator("#summary").textContent(), /best match first/);
    await picture(page, "search");
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), MATTHEW);
    await page.keyboard.press("/");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: MATTHEW }).waitFor();

    await page.keyboard.press("n");
    await notes(page, async (label, text) => {
      await page.keyboard.type(text);
      await page.getByRole("button", { name: "Add note" }).click();
    });
    await page.reload();
    await page.locator(".row summary").first().click();
    await page.locator("main").hover({ position: { x: 700, y: 5 } });
    await picture(page, "customer");
    assert.equal(await page.getByText("Last change undone.").count(), 0, "what was done is said once");

    const before = await page.locator(".day li").count();
    await page.locator("#older").scrollIntoViewIfNeeded();
    await page.waitForFunction((count) => document.querySelectorAll(".day li").length > count, before);

    await page.getByText("1 edit waits to be sent: name").waitFor();
    await page.keyboard.press("r");
    await page.getByText("Sources asked.").waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    await page.keyboard.press("g");
    await page.keyboard.press("c");
    await page.waitForURL("**/customers");
    await search.fill("zzzzzzzz");
    await page.getByText("No customer matches").waitFor();
    await search.press("Escape");
    await page.locator(".rows tbody tr").nth(10).waitFor();
    await page.emulateMedia({ colorScheme: "dark" });
    await picture(page, "customers");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL("**/sign-in");
    assert.deepEqual(wrong, []);
  },

  async "agent-without-script"() {
    const { page, wrong } = await open({ javaScriptEnabled: false });
    await signIn(page);
    await page.getByRole("searchbox").fill("mathew grov");
    await page.getByRole("searchbox").press("Enter");
    await page.locator(".rows tbody a", { hasText: MATTHEW }).click();
    await page.getByRole("heading", { level: 1, name: MATTHEW }).waitFor();
    await page.locator(".row summary").first().click();
    await page.getByText("comes first in the rules.").first().waitFor();
    await notes(page, async (label, text) => {
      await page.getByLabel(label, { exact: true }).fill(text);
      await page.getByRole("button", { name: "Add note" }).click();
    });
    for (const [tab, button, fields] of [
      ["Contact", "Add contact", { Contact: "603.555.0142", "Who it is, or when": "Ines, spouse" }],
      ["Link", "Add link", { Link: "https://x.example/photo", "What it leads to": "Photo of the ramekin" }],
      ["Complaint", "Add complaint", { "What happened": "Damaged in transit" }],
    ]) {
      await page.getByRole("navigation", { name: "What to write" }).getByRole("link", { name: tab }).click();
      for (const [label, value] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(value);
      await page.getByRole("button", { name: button }).click();
      await page.getByText(`${tab} added.`).waitFor();
    }
    await page.getByRole("link", { name: "Show older" }).click();
    await page.getByRole("heading", { level: 1, name: "Timeline" }).waitFor();
    await page.goto("/customers?state=NH");
    await page.getByRole("link", { name: /^Without State/ }).click();
    await page.getByRole("link", { name: "Next 50" }).click();
    await page.getByRole("link", { name: "Back to the first" }).click();
    await page.getByRole("button", { name: "Dark" }).click();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL("**/sign-in");
    assert.deepEqual(wrong, []);
  },

  async look() {
    for (const colorScheme of ["light", "dark"]) {
      for (const [size, viewport] of Object.entries(SIZES)) {
        const { page, wrong } = await open({ colorScheme, viewport });
        const judge = async (name) => {
          await page.evaluate(axeSource);
          const { violations } = await page.evaluate(() => axe.run());
          const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map(({ html }) => html).join("\n")}`);
          assert.deepEqual(found, [], `${name} in ${colorScheme} on a ${size}`);
          for (const width of [320, viewport.width]) {
            await page.setViewportSize({ width, height: viewport.height });
            const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            assert(over <= 0, `${name} scrolls sideways by ${over} px at ${width} px`);
          }
          await picture(page, `${name}-${size}-${colorScheme}`, true);
        };
        await page.goto("/sign-in");
        await judge("sign-in");
        await page.getByLabel("Access key").fill("c360_wrong");
        await page.getByRole("button", { name: "Sign in" }).click();
        await judge("sign-in-refused");
        await signIn(page);
        await judge("customers");
        for (const filter of ["System", "More filters"]) {
          await page.locator(".filter summary", { hasText: filter }).click();
          await judge(`filter-${filter === "System" ? "system" : "more"}`);
          await page.keyboard.press("Escape");
        }
        await page.keyboard.press("Escape");
        await page.locator("main").press("?");
        await judge("keys");
        await page.keyboard.press("Escape");
        await page.goto("/customers?q=mathew+grov&state=NH&state=VT&state=ME");
        await judge("customers-filtered");
        await page.goto("/insights");
        await page.getByRole("heading", { level: 2, name: "New customers" }).waitFor();
        await judge("insights");
        await page.goto("/customers?q=zzzzzzzz");
        await judge("customers-empty");
        await page.goto("/customers?q=mathew+grov");
        await page.locator(".rows tbody a", { hasText: MATTHEW }).click();
        await page.getByRole("heading", { level: 1, name: MATTHEW }).waitFor();
        await page.locator(".row summary", { hasText: "+" }).first().click();
        await judge("customer");
        const customer = page.url();
        await page.goto(`${customer}?write=contact&type=interaction`);
        await judge("customer-contact");
        await page.getByLabel("Contact", { exact: true }).fill("x".repeat(501));
        await page.getByRole("button", { name: "Add contact" }).click();
        await page.getByText("Write text of 1 to 500 characters").waitFor();
        await judge("contact-refused");
        await page.getByLabel("Contact", { exact: true }).fill("603.555.0142");
        await page.getByRole("button", { name: "Add contact" }).click();
        await page.getByText("Contact added.").waitFor();
        await judge("contact-added");
        await page.getByRole("link", { name: "Edit: 603.555.0142" }).first().click();
        await judge("contact-edited");
        await page.goto(`${url}/customers/00000000-0000-0000-0000-000000000000`);
        await judge("not-found");
        await page.context().close();
        assert.deepEqual(wrong.filter((what) => !/status of 4/.test(what)), []);
      }
    }
  },
};

try {
  await journeys[process.argv[2]]();
} finally {
  await browser.close();
}
