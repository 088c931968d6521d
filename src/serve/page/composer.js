// The question that is being written: its text, its pictures, and the ways by which those come.

class Composer {
  /** @param {(question: {text: string, pictures: object[]}) => void} send */
  constructor(send) {
    this.pictures = [];
    this.send = send;
    this.text = document.getElementById("question");
    this.list = document.getElementById("pictures");
    const form = document.getElementById("ask");
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#submit();
    };
    this.text.oninput = () => this.#fit();
    this.text.onkeydown = (event) => {
      // While an input method composes a character, Enter is its own.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    };
    for (const id of ["files", "camera"]) {
      const input = document.getElementById(id);
      input.onchange = () => {
        this.add(input.files);
        input.value = "";
      };
      input.parentElement.onkeydown = (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        input.click();
      };
    }
    document.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length === 0) return;
      event.preventDefault();
      this.add(event.clipboardData.files);
    });
    this.#takeDrops();
  }

  #takeDrops() {
    const target = document.getElementById("drop");
    const brings = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!brings(event)) return;
      event.preventDefault();
      target.hidden = false;
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) target.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      target.hidden = true;
      if (!brings(event)) return;
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
  }

  /** Takes files as they are: whether one is a picture that the model can see is the server's to say. */
  add(files) {
    for (const file of files) this.pictures.push({ name: file.name || "picture", blob: file });
    this.show();
    this.text.focus();
  }

  show() {
    this.list.replaceChildren(
      ...this.pictures.map((picture, n) => {
        const image = make("img", { src: address(picture.blob), alt: picture.name });
        image.onerror = () => image.replaceWith(make("div", { className: "unknown" }, picture.name));
        const remove = make("button", { type: "button", ariaLabel: say("removePicture", picture) }, "✕");
        remove.onclick = () => {
          this.pictures.splice(n, 1);
          this.show();
          this.text.focus();
        };
        return make("li", {}, image, remove);
      }),
    );
    this.#fit();
  }

  /** Puts a question back to be written anew. */
  take({ text, pictures }) {
    this.text.value = text;
    this.pictures = [...pictures];
    this.show();
    this.text.focus();
  }

  #submit() {
    const text = this.text.value.trim();
    if (document.getElementById("send").hidden || (!text && this.pictures.length === 0)) return;
    const question = { text, pictures: this.pictures };
    this.take({ text: "", pictures: [] });
    this.send(question);
  }

  /** As high as its lines, within what the style sheet allows. */
  #fit() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }
}
