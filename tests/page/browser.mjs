// A browser, and what the tests of the page do with it again and again.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

export const PATIENCE_MS = 60_000;

/** Runs `test` in a browser that knows nothing yet; whatever the page complains of is a failure. */
export async function inBrowser(options, test) {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  const context = await browser.newContext({ locale: "en-GB", colorScheme: "light", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // That a request was refused is told by the page itself.
    if (message.type() === "error" && !message.text().includes("status of")) complaints.push(message.text());
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    const isOwn = ["data:", "blob:"].includes(url.protocol) || url.hostname === "127.0.0.1";
    if (!isOwn) complaints.push(`asks elsewhere: ${url}`);
  });
  try {
    await test(page, context);
    assert.deepEqual(complaints, []);
  } finally {
    await browser.close();
  }
}

/** The text of the answer `n`, once it is there whole. */
export async function answer(page, n = 0) {
  await page.locator(".turn.assistant").nth(n).locator(".deeds").waitFor();
  return page.locator(".turn.assistant").nth(n).locator(".bubble").textContent();
}

export async function addPicture(page, path) {
  await page.locator("#files").setInputFiles(path);
  await page.locator("#pictures img").first().waitFor();
}

/** Brings `files`, of `{name, type, base64}`, as a paste or a drop does. */
export function bring(page, kind, files) {
  return page.evaluate(
    ([kind, files]) => {
      const brought = new DataTransfer();
      for (const { name, type, base64 } of files) {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        brought.items.add(new File([bytes], name, { type }));
      }
      const options = { bubbles: true, cancelable: true };
      if (kind === "paste") document.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: brought }));
      for (const name of kind === "drop" ? ["dragover", "drop"] : []) {
        document.body.dispatchEvent(new DragEvent(name, { ...options, dataTransfer: brought }));
      }
    },
    [kind, files],
  );
}
