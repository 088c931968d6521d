// What stays in the browser: settings in its local storage, conversations with their pictures in a database.

/** A setting, or null. */
function recall(name) {
  try {
    return localStorage.getItem(`owlet.${name}`);
  } catch {
    return null;
  }
}

/** Keeps a setting; an empty one is forgotten. */
function remember(name, value) {
  try {
    if (value === "") localStorage.removeItem(`owlet.${name}`);
    else localStorage.setItem(`owlet.${name}`, value);
  } catch {
    // A browser that keeps nothing is told of elsewhere: see `forgetful`.
  }
}

/** A request of the database, as a promise. */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** The browser's database for the page; null where it has none. */
async function openDatabase() {
  try {
    const request = indexedDB.open("owlet", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
    return await done(request);
  } catch {
    return null;
  }
}

/**
 * Where conversations are kept: `{id, title, changed, turns}`, a turn `{role, text, pictures, state, ...}`, pictures `{name, blob}`.
 * Without a database they last as long as the page does.
 */
class Shelf {
  #database = openDatabase();

  async #store(mode) {
    return (await this.#database)?.transaction("conversations", mode).objectStore("conversations");
  }

  /** Whether what is kept will still be there tomorrow. */
  async isLasting() {
    return (await this.#database) !== null;
  }

  /** All of them, the one that changed last first. */
  async all() {
    const store = await this.#store("readonly");
    const found = store ? await done(store.getAll()) : [];
    return found.sort((a, b) => b.changed - a.changed);
  }

  /** Whether it will last: a full disk, for one, is no reason to lose what is on the screen. */
  async keep(conversation) {
    const store = await this.#store("readwrite");
    return store ? done(store.put(conversation)).then(() => true, () => false) : false;
  }

  async remove(id) {
    const store = await this.#store("readwrite");
    if (store) await done(store.delete(id));
  }
}
