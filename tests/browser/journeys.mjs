// Journeys through the dashboard in a real Chromium. `node journeys.mjs NAME`; what it needs is in the environment, see
// tests/tests/browser/world.rs. It says nothing and ends with 0, or says what is wrong.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { exportCustomer, keepCustomers, lookAtKeeping } from "./keeping.mjs";

const need = createRequire(`${process.env.C360_MODULES}/`);
const { chromium } = need("playwright-core");
const axeSource = readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");

const { C360_URL: url, C360_KEY: key, C360_PICTURES: pictures, C360_EXPORTED: exported } = process.env;
const people = process.env.C360_PEOPLE.split(",");
const MATTHEW = "Matthew Groves";
const MATTHEWS = "/customers/matthew.groves@couchbase.com";
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

// What axe-core finds on a page, and whether it scrolls sideways; leaves a picture.
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

// The session ends beside a half-written note, which is there to be sent after signing in on another page.
async function signedOutBesideANote(page, judge = async () => {}) {
  await page.goto(MATTHEWS);
  await page.getByLabel("Note", { exact: true }).fill("Half a note");
  await page.context().clearCookies({ name: "c360_session" });
  await page.getByRole("button", { name: "Add note" }).click();
  await page.getByRole("heading", { level: 1, name: "You are signed out" }).waitFor();
  await judge("signed-out");
  const opened = page.context().waitForEvent("page");
  await page.getByRole("link", { name: "Sign in on another page" }).click();
  const other = await opened;
  await other.getByLabel("Access key").fill(key);
  await other.getByRole("button", { name: "Sign in" }).click();
  await other.waitForURL("**/customers");
  await other.close();
  await page.getByRole("button", { name: "Send again" }).click();
  await page.getByText("is older than your sign-in").waitFor();
  await page.getByRole("button", { name: "Send again" }).click();
  await page.getByText("Note added.").waitFor();
  await page.getByText("Half a note").first().waitFor();
}

// An agent edits a profile and takes the edit back, and keeps a search as a view.
async function editAndSave(page) {
  await page.goto(MATTHEWS);
  await page.getByRole("link", { name: "Edit profile" }).click();
  await page.getByLabel("Phone", { exact: true }).fill("+1 603 555 0100");
  await page.getByRole("button", { name: "Save profile" }).click();
  await page.getByText("Profile edited.").waitFor();
  await page.locator(".row summary", { hasText: "+1 603 555 0100" }).click();
  await page.getByText("Edited by Dana Reyes").waitFor();
  await page.getByText("Because they bought").first().waitFor();
  await page.getByRole("link", { name: "Edit profile" }).click();
  await page.getByLabel("Take the edit of Phone back").check();
  await page.getByRole("button", { name: "Save profile" }).click();
  await page.getByText("Profile edited.").waitFor();
  assert.equal(await page.locator(".row", { hasText: "+1 603 555 0100" }).count(), 0);

  await page.goto("/customers?state=NH");
  await page.getByText("Save as view").click();
  await page.getByLabel("Name of the view").fill("New Hampshire");
  await page.getByRole("button", { name: "Save view" }).click();
  await page.goto("/customers");
  const views = page.getByRole("navigation", { name: "Saved views" });
  await views.getByRole("link", { name: "New Hampshire" }).click();
  assert.equal(new URL(page.url()).search, "?state=NH");
  await page.getByRole("button", { name: "Remove view New Hampshire" }).click();
  await page.waitForURL("**/customers");
  assert.equal(await views.getByRole("link").count(), 1);
}

// Brings the preview of a merge of somebody into the reference customer.
async function lookAtMerge(page, email) {
  await page.goto(MATTHEWS);
  await page.getByRole("link", { name: "Merge…" }).click();
  await page.getByLabel("The other customer").fill(email);
  await page.getByRole("button", { name: "Show what would come of it" }).click();
  await page.getByRole("columnheader", { name: "Then" }).first().waitFor();
}

async function decide(page) {
  const [merged, erased] = people;
  await lookAtMerge(page, merged);
  await picture(page, "merge");
  await page.getByRole("button", { name: "Merge customers" }).click();
  await page.getByText(`Merged ${merged} into this customer.`).waitFor();
  await page.getByText(`Merged with ${merged}`).waitFor();
  await page.getByRole("status").getByRole("link", { name: "Undo" }).click();
  await page.getByRole("button", { name: "Undo decision" }).click();
  await page.getByText("Decision undone.").waitFor();
  assert.equal(await page.getByText(`Merged with ${merged}`).count(), 0);

  await page.goto(`/customers/${erased}`);
  const whom = page.url();
  await page.getByRole("link", { name: "Erase…" }).click();
  await page.getByLabel("To erase, type the email").fill(merged);
  await page.getByRole("button", { name: "Erase for good" }).click();
  await page.getByText("Nothing is erased").waitFor();
  await page.getByLabel("To erase, type the email").fill(erased);
  await page.getByRole("button", { name: "Erase for good" }).click();
  await page.getByRole("heading", { level: 1, name: "Erased" }).waitFor();
  await page.goto(whom);
  await page.getByRole("heading", { level: 1, name: "No such customer" }).waitFor();
}

// Lets axe-core judge a page, looks whether it scrolls sideways, and takes a picture.
const judging = (page, colorScheme, size, viewport) => async (name) => {
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
    const tooMany = { status: 429, contentType: "text/html", body: "<h1>Too many requests</h1>" };
    await page.route("**/timeline?*", (route) => route.fulfill(tooMany), { times: 1 });
    const refused = page.waitForResponse((answer) => answer.status() === tooMany.status);
    await page.reload();
    await page.locator("#older").scrollIntoViewIfNeeded();
    await (await refused).finished();
    await page.evaluate(() => new Promise((done) => setTimeout(done)));
    assert(await page.locator("#older").isVisible(), "what is older can still be asked for");

    await page.keyboard.press("e");
    await page.getByRole("heading", { level: 1, name: `Edit ${MATTHEW}` }).waitFor();
    await editAndSave(page);
    await keepCustomers(page);

    await page.goto(MATTHEWS);
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
    await signedOutBesideANote(page);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL("**/sign-in");
    assert.deepEqual(wrong.filter((what) => !/status of 4/.test(what)), []);
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
    await page.getByRole("navigation", { name: "Types on the timeline" }).getByRole("link", { name: "Complaint" }).click();
    await page.getByRole("searchbox", { name: "Words on the timeline" }).fill("transit");
    await page.getByRole("searchbox", { name: "Words on the timeline" }).press("Enter");
    await page.locator("#days").getByText("Damaged in transit").waitFor();
    assert.equal(new URL(page.url()).search, "?type=complaint&q=transit");
    await page.goto(MATTHEWS);
    await page.getByRole("link", { name: "Show older" }).click();
    await page.getByRole("heading", { level: 2, name: "Timeline, older" }).waitFor();
    await editAndSave(page);
    await keepCustomers(page);
    await page.goto("/customers?state=NH");
    await page.getByRole("link", { name: /^Without State/ }).click();
    await page.getByRole("link", { name: "Next 50" }).click();
    await page.getByRole("link", { name: "Back to the first" }).click();
    await page.getByRole("button", { name: "Dark" }).click();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL("**/sign-in");
    assert.deepEqual(wrong.filter((what) => !/status of 4/.test(what)), []);
  },

  async manager() {
    const { page, wrong } = await open();
    await signIn(page);
    await page.getByRole("link", { name: "Insights" }).click();
    for (const chart of ["New customers by month", "Order value by month"]) {
      const drawn = page.getByRole("img", { name: chart });
      const { width, height } = await drawn.boundingBox();
      assert(width > 500 && height >= 200, `${chart} is ${width} × ${height} px`);
      const columns = await drawn.locator("rect").evaluateAll((all) => all.map((one) => one.getBoundingClientRect().height));
      assert(columns.length === 12 && Math.max(...columns) > 75, `${chart} has columns of ${columns} px`);
    }
    await judging(page, "light", "desktop", SIZES.desktop)("insights-of-a-manager");
    await picture(page, "insights");
    const all = page.locator("section", { has: page.locator("#states") }).getByText(/^All \d/);
    if (await all.count()) await all.click();
    const state = page.getByRole("row").filter({ has: page.getByRole("link", { name: "NH", exact: true }) });
    const number = await state.getByRole("cell").last().textContent();
    await state.getByRole("link").click();
    await page.getByText("State: NH").waitFor();
    assert.equal(await page.locator("#summary").textContent(), `${number} customers.`);
    const customer = page.locator(".rows tbody a").first();
    const name = await customer.textContent();
    await customer.click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
    assert.match(await page.locator("#profile .row", { hasText: "Address" }).textContent(), /NH/);
    assert.deepEqual(wrong, []);
  },

  async decisions() {
    const { page, wrong } = await open();
    await signIn(page);
    await exportCustomer(page, MATTHEWS, exported);
    await decide(page);
    assert.deepEqual(wrong.filter((what) => !/status of 4/.test(what)), []);
  },

  async "decisions-without-script"() {
    const { page, wrong } = await open({ javaScriptEnabled: false });
    await signIn(page);
    await exportCustomer(page, MATTHEWS, exported);
    await decide(page);
    assert.deepEqual(wrong.filter((what) => !/status of 4/.test(what)), []);
  },

  async operator() {
    const { page, wrong } = await open();
    await signIn(page);
    await page.keyboard.press("Escape");
    await page.locator("main").press("?");
    await page.getByRole("dialog").getByText("Operations").waitFor();
    await page.keyboard.press("Escape");
    // An answer that is no stream, as while the database is away, is asked for again.
    await page.route("**/operations/live*", (route) => route.fulfill({ status: 503 }), { times: 1 });
    await page.keyboard.press("g");
    await page.keyboard.press("o");
    await page.waitForURL("**/operations");
    await page.locator("#liveness", { hasText: "Not live: trying again" }).waitFor();
    const attention = page.locator("#attention");
    await attention.getByText("members_2026-03-02.csv was refused").waitFor();
    await attention.getByText("partition 2 of support.mail is stopped").waitFor();
    await attention.getByText("2 dead letters within a day").waitFor();
    // With the page, or with the stream when that came too early.
    await page.locator(".bar nav [aria-current]", { hasText: /Operations\s+\d+ need attention/ }).waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    await picture(page, "operations", true);
    assert.equal(await page.getByRole("button", { name: "Retry selected" }).isDisabled(), true);
    await page.evaluate(() => { window.stays = true; });

    // In another window the short row is discarded; this page follows, and keeps what is selected.
    const letter = (which, reason) => which.locator("#letters tbody tr", { hasText: reason }).getByRole("checkbox");
    for (const key of ["j", "j", "x"]) await page.keyboard.press(key);
    assert.equal(await letter(page, "not_utf8").isChecked(), true);
    const other = await page.context().newPage();
    await other.goto("/operations");
    await letter(other, "ragged_row").check();
    await other.getByRole("button", { name: "Discard 1 selected…" }).click();
    await other.getByRole("heading", { name: "Discard 1 dead letter" }).waitFor();
    await other.getByRole("button", { name: "Discard 1 dead letter" }).click();
    await other.getByText("1 dead letter discarded.").waitFor();
    await page.locator("#letters h2", { hasText: "1 parked" }).waitFor();
    await attention.getByText("1 dead letter within a day").waitFor();
    assert.equal(await letter(page, "not_utf8").isChecked(), true);
    await page.getByRole("button", { name: "Retry 1 selected" }).waitFor();

    // Who has paused reads on undisturbed, while the configuration is mended and the letter is retried.
    await page.getByRole("button", { name: "Pause updates" }).click();
    await letter(other, "not_utf8").check();
    await other.getByRole("button", { name: "Retry 1 selected" }).waitFor();
    await other.keyboard.press("Shift+R");
    await other.getByText("1 landed, as 1 record").waitFor();
    await other.getByText("No dead letter is parked").waitFor();
    await page.locator("#letters h2", { hasText: "1 parked" }).waitFor();
    await page.getByRole("button", { name: "Resume updates" }).click();
    await page.getByText("No dead letter is parked").waitFor();
    assert.equal(await attention.getByText("within a day").count(), 0);
    assert.equal(await page.evaluate(() => window.stays), true, "it was never loaded again");
    await other.getByRole("link", { name: "Retried" }).click();
    await other.locator("#letters tbody tr", { hasText: "not_utf8" }).waitFor();
    await page.goto("/customers?q=renee.cote@x.example");
    await page.locator(".rows tbody a", { hasText: "Renée Côté" }).waitFor();
    assert.deepEqual(wrong.filter((what) => !/status of 503/.test(what)), []);
  },

  async "operator-without-script"() {
    const { page, wrong } = await open({ javaScriptEnabled: false });
    await signIn(page);
    await page.getByRole("link", { name: "Operations" }).click();
    await page.getByRole("heading", { name: "Needs attention" }).waitFor();
    assert.equal(await page.getByRole("button", { name: "Pause updates" }).isVisible(), false);
    await page.getByRole("link", { name: "Review" }).click();
    for (const box of await page.locator("#letters tbody").getByRole("checkbox").all()) await box.check();
    await page.getByRole("button", { name: "Retry selected" }).click();
    await page.getByText("1 landed, as 1 record").waitFor();
    await page.getByText("1 still bad: ragged_row").waitFor();
    await page.getByText("Tried in vain").waitFor();
    await page.locator("#letters tbody").getByRole("checkbox").check();
    await page.getByRole("button", { name: "Discard selected…" }).click();
    await page.getByRole("link", { name: "Cancel" }).click();
    await page.locator("#letters tbody").getByRole("checkbox").check();
    await page.getByRole("button", { name: "Discard selected…" }).click();
    await page.getByRole("button", { name: "Discard 1 dead letter" }).click();
    await page.getByText("No dead letter is parked").waitFor();
    assert.deepEqual(wrong, []);
  },

  async "look-of-operations"() {
    for (const colorScheme of ["light", "dark"]) {
      for (const [size, viewport] of Object.entries(SIZES)) {
        const { page, wrong } = await open({ colorScheme, viewport });
        const judge = judging(page, colorScheme, size, viewport);
        await signIn(page);
        await page.goto("/operations");
        await page.getByText("Live", { exact: true }).waitFor();
        await judge("operations");
        await page.locator("#letters tbody").getByRole("checkbox").first().check();
        await page.getByRole("button", { name: "Discard 1 selected…" }).click();
        await page.getByRole("heading", { name: "Discard 1 dead letter" }).waitFor();
        await judge("operations-discard");
        await page.getByRole("link", { name: "Cancel" }).click();
        await page.goto("/operations?state=discarded");
        await page.getByText("There are none.").waitFor();
        await judge("operations-discarded");
        await page.context().close();
        assert.deepEqual(wrong, []);
      }
    }
  },

  async look() {
    for (const colorScheme of ["light", "dark"]) {
      for (const [size, viewport] of Object.entries(SIZES)) {
        const { page, wrong } = await open({ colorScheme, viewport });
        const judge = judging(page, colorScheme, size, viewport);
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
        await page.getByText("Save as view").click();
        await judge("view-saved");
        await page.getByLabel("Name of the view").fill("New England");
        await page.getByRole("button", { name: "Save view" }).click();
        await judge("customers-view");
        await page.getByRole("button", { name: "Remove view New England" }).click();
        await page.waitForURL("**/customers");
        await lookAtKeeping(page, judge);
        await page.getByRole("link", { name: "API" }).click();
        await judge("docs");
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
        await page.getByRole("link", { name: "Edit profile" }).click();
        await page.getByLabel("Phone", { exact: true }).fill("x".repeat(2001));
        await page.getByRole("button", { name: "Save profile" }).click();
        await page.getByText("Write text of at most 2000 characters").waitFor();
        await judge("edit-refused");
        await page.getByLabel("Phone", { exact: true }).fill("+1 603 555 0100");
        await page.getByRole("button", { name: "Save profile" }).click();
        await page.getByText("Profile edited.").waitFor();
        await page.getByRole("link", { name: "Edit profile" }).click();
        await judge("edit");
        await page.getByLabel("Take the edit of Phone back").check();
        await page.getByRole("button", { name: "Save profile" }).click();
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
        await signedOutBesideANote(page, judge);
        await page.context().close();
        assert.deepEqual(wrong.filter((what) => !/status of 4/.test(what)), []);
      }
    }
  },

  async "look-at-decisions"() {
    let nobodyYet = 2;
    for (const colorScheme of ["light", "dark"]) {
      for (const [size, viewport] of Object.entries(SIZES)) {
        const { page, wrong } = await open({ colorScheme, viewport });
        const judge = judging(page, colorScheme, size, viewport);
        const [merged, erased] = people.slice(nobodyYet);
        nobodyYet += 2;
        await signIn(page);
        await page.goto(MATTHEWS);
        await page.getByRole("link", { name: "Merge…" }).click();
        await judge("merge-whom");
        await page.getByLabel("The other customer").fill("nobody@x.example");
        await page.getByRole("button", { name: "Show what would come of it" }).click();
        await page.getByText("No customer is known").waitFor();
        await judge("merge-refused");
        await lookAtMerge(page, merged);
        await judge("merge-preview");
        await page.getByRole("button", { name: "Merge customers" }).click();
        await page.getByText(`Merged ${merged} into this customer.`).waitFor();
        await judge("merged");
        await page.getByRole("link", { name: "Split…" }).click();
        await judge("split-which");
        await page.getByRole("radio").last().check();
        await page.getByRole("button", { name: "Show what would come of it" }).click();
        await page.getByRole("button", { name: "Split off" }).waitFor();
        await judge("split-preview");
        await page.goto(MATTHEWS);
        await page.getByRole("link", { name: /^Undo: .* merged into/ }).click();
        await judge("undo-preview");
        await page.getByRole("button", { name: "Undo decision" }).click();
        await page.getByText("Decision undone.").waitFor();
        await page.goto(`/customers/${erased}`);
        await page.getByRole("link", { name: "Erase…" }).click();
        await judge("erase");
        await page.getByLabel("To erase, type the email").fill("nobody@x.example");
        await page.getByRole("button", { name: "Erase for good" }).click();
        await page.getByText("Nothing is erased").waitFor();
        await judge("erase-refused");
        await page.getByLabel("To erase, type the email").fill(erased);
        await page.getByRole("button", { name: "Erase for good" }).click();
        await page.getByRole("heading", { level: 1, name: "Erased" }).waitFor();
        await judge("erased");
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
