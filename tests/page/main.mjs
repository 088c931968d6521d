// The server's page in a browser: node main.mjs OPEN CLOSED PICTURE SCREENSHOTS, the addresses of a server that asks for no key and of
// one that asks for the key below. Each test is named by what must hold.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { addPicture, answer, bring, inBrowser } from "./browser.mjs";

const [open, closed, picture, shots] = process.argv.slice(2);
const KEY = "a-key-of-thirty-one-characters-";
const QUESTION = "What colour is the circle?";
const base64 = readFileSync(picture, "base64");
const file = { name: "circle.png", type: "image/png", base64 };
const shot = (page, name) => page.screenshot({ path: join(shots, `${name}.png`) });

const tests = {
  async "a picture is added, asked about, answered, with where the time went"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      await page.locator("#model").filter({ hasText: /\S/ }).waitFor();
      await shot(page, "welcome");
      await addPicture(page, picture);
      await page.locator("#question").fill(QUESTION);
      await shot(page, "written");
      await page.locator("#question").press("Enter");
      assert.equal(await answer(page), "red");
      assert.match(await page.locator(".deeds .small").textContent(), /2 tokens in .* a second/);
      assert.match(await page.locator("figcaption").textContent(), /PNG, \d+ × \d+; the model sees \d+ × \d+/);
      assert.equal(await page.locator("#title").textContent(), QUESTION);
      assert.equal(await page.locator("#status").textContent(), "Answer: red");
      await shot(page, "answered");
      // A second question of the same conversation.
      await page.locator("#question").fill("Is it a square?");
      await page.locator("#send").click();
      assert.ok((await answer(page, 1)).length > 0);
      assert.equal(await page.locator(".turn").count(), 4);
    });
  },

  async "pictures are pasted, dropped, looked at and taken back"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      await bring(page, "paste", [file]);
      await bring(page, "drop", [file, { ...file, name: "again.png" }]);
      assert.equal(await page.locator("#pictures li").count(), 3);
      assert.ok(await page.locator("#drop").isHidden());
      await page.getByRole("button", { name: "Remove again.png" }).click();
      assert.equal(await page.locator("#pictures li").count(), 2);
      await page.getByRole("button", { name: "Remove circle.png" }).first().click();
      await page.locator("#send").click();
      // A picture without a question is one, too.
      assert.ok((await answer(page)).length > 0);
    });
  },

  async "what is no picture is refused by name, and can be mended"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      await bring(page, "drop", [{ name: "notes.txt", type: "text/plain", base64: "aGVsbG8=" }]);
      await page.locator("#question").fill("What is it?");
      await page.locator("#send").click();
      const problem = page.locator(".turn .problem");
      assert.match(await problem.textContent(), /^notes.txt: no picture format is known/);
      await shot(page, "refused");
      await page.getByRole("button", { name: "Edit" }).click();
      assert.equal(await page.locator("#question").inputValue(), "What is it?");
      await page.getByRole("button", { name: "Remove notes.txt" }).click();
      await page.locator("#send").click();
      assert.ok((await answer(page)).length > 0);
      assert.equal(await page.locator(".turn").count(), 2);
    });
  },

  async "an answer is stopped, kept, and tried again"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      // The server is made slow: its answer goes on after a while that nobody waits for.
      await page.route("**/v1/chat/completions", async (route) => {
        await new Promise((resolve) => setTimeout(resolve, 3000));
        await route.continue().catch(() => {});
      });
      await addPicture(page, picture);
      await page.locator("#question").fill(QUESTION);
      await page.locator("#send").click();
      await page.locator(".waiting").waitFor();
      await shot(page, "working");
      await page.keyboard.press("Escape");
      await page.getByText("Stopped.").last().waitFor();
      await page.unroute("**/v1/chat/completions");
      await page.getByRole("button", { name: "Try again" }).click();
      assert.equal(await answer(page), "red");
      assert.equal(await page.locator(".turn").count(), 2);
    });
  },

  async "a stream's pieces are shown as they come, with how far the picture is"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      const piece = (choice) => `data: ${JSON.stringify({ choices: [{ index: 0, finish_reason: null, ...choice }] })}\n\n`;
      // The parts are sent to the page's own reader, cut in the middle of lines and of characters.
      await page.evaluate((parts) => {
        const bytes = new TextEncoder().encode(parts.join(""));
        window.fetch = async () => {
          const body = new ReadableStream({
            async start(stream) {
              for (let at = 0; at < bytes.length; at += 7) {
                stream.enqueue(bytes.slice(at, at + 7));
                await new Promise((resolve) => setTimeout(resolve, 20));
              }
              await new Promise((resolve) => setTimeout(resolve, 500));
              stream.close();
            },
          });
          return new Response(body, { status: 200 });
        };
      }, [": picture 1: step 9 of 45\n\n", ": prompt: 20 of 300\n\n", piece({ delta: { content: "圆 is red" } })]);
      await page.locator("#question").fill(QUESTION);
      await page.locator("#send").click();
      await page.getByText("Looking at picture 1: 9 of 45").waitFor();
      await shot(page, "looking");
      await page.getByText("Reading: 20 of 300 tokens").waitFor();
      await page.getByText("圆 is red", { exact: true }).waitFor();
      // It broke off: what came stays, and that it is not whole is said.
      await page.locator(".turn .problem").waitFor();
    });
  },

  async "conversations stay in the browser, one beside the other, until they are removed"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      await addPicture(page, picture);
      await page.locator("#question").fill(QUESTION);
      await page.locator("#send").click();
      await answer(page);
      await page.getByRole("button", { name: "New conversation" }).click();
      await page.locator("#question").fill("Good day");
      await page.locator("#send").click();
      await answer(page);
      await page.reload();
      await page.locator("#list .name").nth(1).waitFor();
      assert.deepEqual(await page.locator("#list .name").allTextContents(), ["Good day", QUESTION]);
      await page.getByRole("button", { name: QUESTION, exact: true }).click();
      assert.equal(await answer(page), "red");
      const size = await page.locator(".shots img").evaluate((image) => image.naturalWidth);
      assert.ok(size > 0, "the picture was kept as well");
      await shot(page, "several");
      await page.getByRole("button", { name: `Remove the conversation ${QUESTION}` }).click();
      await page.getByRole("button", { name: "Cancel" }).click();
      assert.equal(await page.locator("#list li").count(), 2);
      await page.getByRole("button", { name: `Remove the conversation ${QUESTION}` }).click();
      await page.getByRole("button", { name: "Remove", exact: true }).click();
      await page.reload();
      await page.locator("#list .name").first().waitFor();
      assert.deepEqual(await page.locator("#list .name").allTextContents(), ["Good day"]);
    });
  },

  async "a conversation is copied and exported"() {
    await inBrowser({ permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
      await page.goto(open);
      await addPicture(page, picture);
      await page.locator("#question").fill(QUESTION);
      await page.locator("#send").click();
      await answer(page);
      await page.getByRole("button", { name: "Copy" }).click();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "red");
      for (const [name, check] of [
        ["Markdown", (text) => assert.equal(text, `# ${QUESTION}\n\n*Picture 1: red-circle.png*\n\n> ${QUESTION}\n\nred\n`)],
        ["JSON", (text) => assert.equal(JSON.parse(text).turns[0].pictures[0].data.split(",")[1], base64)],
      ]) {
        await page.getByRole("button", { name: "Export" }).click();
        const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name }).click()]);
        check(readFileSync(await download.path(), "utf8"));
      }
    });
  },

  async "a key is asked for once, and a wrong one again"() {
    await inBrowser({}, async (page) => {
      await page.goto(closed);
      await page.locator("#given-key").fill("wrong");
      await shot(page, "key");
      await page.getByRole("button", { name: "Go on" }).click();
      await page.locator("#wrong-key").waitFor();
      await page.locator("#given-key").fill(KEY);
      await page.getByRole("button", { name: "Go on" }).click();
      await page.locator("#model").filter({ hasText: /\S/ }).waitFor();
      await page.reload();
      await page.locator("#model").filter({ hasText: /\S/ }).waitFor();
      assert.ok(await page.locator("#key-box").isHidden());
      await page.locator("#question").fill("Good day");
      await page.locator("#send").click();
      assert.ok((await answer(page)).length > 0);
    });
  },

  async "settings go with each question"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("Instructions for every answer").fill("Be brief.");
      await page.getByLabel("Temperature").fill("0.5");
      await page.getByLabel("Tokens of an answer, at most").fill("1");
      await page.getByLabel("Colours").selectOption("dark");
      await shot(page, "settings");
      await page.getByRole("button", { name: "Save" }).click();
      await page.locator("#question").fill("Tell me a story");
      const [request] = await Promise.all([page.waitForRequest("**/chat/completions"), page.locator("#send").click()]);
      const body = request.postDataJSON();
      assert.deepEqual(body.messages[0], { role: "system", content: "Be brief." });
      assert.deepEqual([body.temperature, body.max_tokens], [0.5, 1]);
      await answer(page);
      await shot(page, "dark");
    });
  },

  async "it speaks Chinese, and says so to the browser"() {
    await inBrowser({ locale: "zh-CN" }, async (page) => {
      await page.goto(open);
      assert.equal(await page.getAttribute("html", "lang"), "zh-CN");
      await page.getByRole("button", { name: "发送" }).waitFor();
      await shot(page, "chinese");
      await page.locator("#language").click();
      await page.getByRole("button", { name: "Send" }).waitFor();
      await page.reload();
      await page.getByRole("button", { name: "Send" }).waitFor();
    });
  },

  async "a keyboard is enough, and an input method's Enter is its own"() {
    await inBrowser({}, async (page) => {
      await page.goto(open);
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate(() => document.activeElement.id), "question");
      await page.keyboard.type("two");
      await page.keyboard.press("Shift+Enter");
      await page.keyboard.type("lines");
      await page.evaluate(() =>
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true })),
      );
      assert.equal(await page.locator("#question").inputValue(), "two\nlines");
      const [chooser] = await Promise.all([
        page.waitForEvent("filechooser"),
        page.keyboard.press("Tab").then(() => page.keyboard.press("Enter")),
      ]);
      await chooser.setFiles(picture);
      await page.locator("#pictures img").waitFor();
      await page.keyboard.press("Enter");
      assert.ok((await answer(page)).length > 0);
      // Nothing that can be used is without a name.
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll("button, input, textarea, select, [role=button], nav, section")]
          .filter((e) => e.checkVisibility())
          .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
          .map((e) => e.outerHTML),
      );
      assert.deepEqual(nameless, []);
    });
  },

  async "it fits a phone, in the dark"() {
    const phone = { viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true };
    await inBrowser(phone, async (page) => {
      await page.goto(open);
      await addPicture(page, picture);
      await page.locator("#question").fill(QUESTION);
      await page.locator("#send").tap();
      assert.equal(await answer(page), "red");
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `nothing stands beside the screen: ${width}`);
      await shot(page, "phone");
      await page.locator("#open-side").tap();
      await page.waitForFunction(() => document.getElementById("side").getBoundingClientRect().left === 0);
      await shot(page, "phone-list");
      await page.locator("#close-side").tap();
      assert.ok(await page.locator("#side").isHidden());
    });
  },

  async "its policy lets no other script in, and no other page frames it"() {
    const response = await fetch(open);
    const policy = response.headers.get("content-security-policy");
    assert.match(policy, /script-src 'sha256-[^ ]+';/);
    assert.ok(!policy.includes("unsafe") && policy.includes("frame-ancestors 'none'"));
    await inBrowser({}, async (page) => {
      await page.goto(open);
      await page.locator("#question").fill("<img src=x onerror=document.title='broken'>");
      await page.locator("#send").click();
      await answer(page);
      assert.equal(await page.locator("#log img").count(), 0);
    });
  },
};

let n_failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok: ${name}`);
  } catch (error) {
    n_failed += 1;
    console.log(`FAILED: ${name}\n${error.stack}`);
  }
}
console.log(`${Object.keys(tests).length - n_failed} passed, ${n_failed} failed`);
process.exitCode = n_failed ? 1 : 0;
