// What has to happen in the browser at once: keys, copying, following the end of an answer. No answer is read here.
(() => {
  const $ = (selector) => document.querySelector(selector);
  const composer = () => $("textarea.composer-text");
  const touch = matchMedia("(pointer: coarse)").matches;

  window.dokja = {
    keep(name, value) {
      document.cookie = `dokja_${name}=${value}; path=/; max-age=31536000; samesite=lax`;
    },
    focus() {
      if (!touch) composer()?.focus();
    },
    fill(text) {
      const area = composer();
      if (!area) return;
      area.value = text;
      fit(area);
    },
    async copy(text) {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // plain http on another machine has no clipboard
        const area = Object.assign(document.createElement("textarea"), { value: text });
        area.style.cssText = "position:fixed;opacity:0";
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
    },
    end(smooth) {
      const scroll = $(".scroll");
      following = true;
      scroll?.scrollTo({ top: scroll.scrollHeight, behavior: smooth ? "smooth" : "instant" });
    },
  };

  function fit(area) {
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight, innerHeight * 0.4)}px`;
    area.closest(".composer")?.classList.toggle("has-text", area.value.trim() !== "");
  }

  function send() {
    const area = composer();
    const box = area?.closest(".composer");
    if (!area || box.classList.contains("busy")) return;
    const text = area.value.trim();
    if (!text) return area.focus();
    area.dispatchEvent(new CustomEvent("say", { detail: text }));
    area.value = "";
    fit(area);
    following = true;
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, [contenteditable]");
    const command = event.ctrlKey || event.metaKey;
    const press = (selector) => {
      event.preventDefault();
      $(selector)?.click();
    };
    // While Hangul is being composed, Enter ends the syllable and Escape takes it back; neither is for us.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.target === composer() && event.key === "Enter" && !event.shiftKey && !touch) {
      event.preventDefault();
      return send();
    }
    if (event.target.matches?.("textarea.edit-text") && event.key === "Enter" && !event.shiftKey && !touch) {
      event.preventDefault();
      return event.target.closest(".editing").querySelector(".edit-save").click();
    }
    if (event.key === "Escape" && !$(".q-dialog, .q-menu")) {
      if ($(".editing")) return press(".edit-cancel");
      if ($(".app.side-open")) return press(".scrim");
      return $(".composer.busy") ? press(".stop") : undefined;
    }
    if (command && event.shiftKey && event.code === "KeyO") return press(".new");
    if (command && !event.shiftKey && event.code === "KeyB") return press(".side-toggle");
    if (command && event.code === "Period") return press(".think");
    if (typing || command || event.altKey) return;
    if (event.key === "/") {
      event.preventDefault();
      composer()?.focus();
    }
    if (event.key === "?") press(".help");
  });

  document.addEventListener("input", (event) => {
    if (event.target.matches("textarea.composer-text, textarea.edit-text")) fit(event.target);
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest(".send")) return send();
    const copy = event.target.closest(".copy-code");
    if (copy) {
      dokja.copy(copy.closest(".code").querySelector("pre").innerText.replace(/\n$/, ""));
      tick(copy);
    }
    const side = event.target.closest(".side-toggle, .scrim, .side .thread a, .side .new");
    if (side) {
      const app = $(".app");
      const phone = matchMedia("(max-width: 860px)").matches;
      if (phone) app.classList.toggle("side-open", side.matches(".side-toggle") && !app.classList.contains("side-open"));
      else if (side.matches(".side-toggle")) {
        app.classList.toggle("side-shut");
        dokja.keep("side", app.classList.contains("side-shut") ? "shut" : "open");
      }
    }
  });

  // nicegui has these words in the languages of a whole server; here each visitor has a language.
  document.addEventListener("DOMContentLoaded", () => {
    const words = ["연결이 끊겼습니다.", "다시 연결하는 중 …"];
    if (document.documentElement.lang === "ko")
      document.querySelectorAll("#popup span").forEach((span, i) => (span.textContent = words[i]));
  });

  function tick(element) {
    element.classList.add("done");
    setTimeout(() => element.classList.remove("done"), 1400);
  }
  document.addEventListener("click", (event) => {
    const copy = event.target.closest(".copies");
    if (copy) tick(copy);
  });

  // Pictures that are pasted or dropped go the way of those that are chosen.
  function offer(files) {
    const pictures = [...files].filter((file) => file.type.startsWith("image/"));
    const id = $(".composer .upload")?.id?.replace(/^c/, "");
    if (!pictures.length || !id || !$(".composer.sees")) return false;
    getElement(Number(id)).$refs.qRef.addFiles(pictures);
    return true;
  }
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length && offer(event.clipboardData.files)) event.preventDefault();
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    offer(event.dataTransfer.files);
  });

  // Whoever is at the end stays there while an answer grows; whoever has scrolled up is left alone.
  let following = true;
  const left = (s) => s.scrollHeight - s.scrollTop - s.clientHeight;
  const hint = (s) => $(".to-end")?.classList.toggle("shown", left(s) > 200);
  document.addEventListener(
    "scroll",
    (event) => {
      if (!event.target.matches?.(".scroll")) return;
      following = left(event.target) < 60;
      hint(event.target);
    },
    true,
  );
  new MutationObserver(() => {
    const s = $(".talk")?.parentElement;
    if (!s) return;
    if (following) s.scrollTop = s.scrollHeight;
    hint(s);
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
})();
