"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const number = (value) => {
    if (value === null) return "∞";
    if (value === 0) return "0";
    if (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3) return value.toExponential(1);
    return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  };
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

  function stepper(root) {
    const slider = root.querySelector("input");
    const play = root.querySelector(".play");
    const svg = root.querySelector("svg");
    const mark = root.querySelector(".mark");
    let clock = null;

    function show() {
      const row = data.steps[Number(slider.value)];
      const which = `step ${row.step + 1} of ${data.of}`;
      const xt = root.querySelector(".xt");
      const x0 = root.querySelector(".x0");
      xt.src = row.xt;
      x0.src = row.x0;
      xt.alt = `What ${which} began with`;
      x0.alt = `What the network takes for clean in ${which}`;
      root.querySelector(".which").textContent = row.step + 1;
      slider.setAttribute("aria-valuetext", which);
      for (const key of ["t", "alpha", "sigma", "snr"]) root.querySelector(`dd.${key}`).textContent = number(row[key]);
      const calls = row.calls > 1 ? ` in ${row.calls} calls` : "";
      root.querySelector("dd.time").textContent = `${number(row.seconds * 1000)} ms${calls}`;
      const [left, right] = [Number(svg.dataset.left), Number(svg.dataset.right)];
      const place = left + ((right - left) * row.step) / Math.max(1, data.of - 1);
      mark.setAttribute("x1", place);
      mark.setAttribute("x2", place);
    }

    function stop() {
      clearInterval(clock);
      clock = null;
      play.textContent = "Play";
    }

    play.addEventListener("click", () => {
      if (clock !== null) return stop();
      if (slider.value === slider.max) slider.value = 0;
      play.textContent = "Pause";
      show();
      clock = setInterval(() => {
        if (slider.value === slider.max) return stop();
        slider.value = Number(slider.value) + 1;
        show();
      }, Math.max(80, 4000 / data.steps.length));
    });
    slider.addEventListener("input", () => {
      stop();
      show();
    });
    show();
  }

  function light(root) {
    const canvas = root.querySelector("canvas");
    const brush = canvas.getContext("2d");
    const told = root.querySelector(".told");
    const select = root.querySelector("select");
    const slider = root.querySelector("input");
    const output = root.querySelector("output");
    const words = [...root.querySelectorAll(".word")];
    const steps = data.lit.map((place) => data.steps[place]);
    const pictures = steps.map((row) => Object.assign(new Image(), { src: row.x0 }));
    const shares = data.layers.map((layer) => Uint8Array.from(atob(layer.shares), (letter) => letter.charCodeAt(0)));
    let chosen = Math.max(0, words.findIndex((word) => word.hasAttribute("data-first")));
    let shown = chosen;

    /* The share of a word at every place of the layers that are chosen: of one step, or the mean of all. */
    function attention(word) {
      const layer = data.layers[Number(select.value)];
      const places = layer.rows * layer.columns;
      const step = Number(slider.value);
      const taken = step ? [step - 1] : steps.keys();
      const map = new Float64Array(places);
      let count = 0;
      for (const one of taken) {
        const first = (one * data.words.length + word) * places;
        for (let place = 0; place < places; place++) map[place] += shares[Number(select.value)][first + place];
        count++;
      }
      return { rows: layer.rows, columns: layer.columns, map: map.map((sum) => (sum / count / 255) * layer.most) };
    }

    function paint() {
      const step = Number(slider.value);
      const { rows, columns, map } = attention(shown);
      const most = Math.max(...map);
      const least = Math.min(...map);
      const shade = new ImageData(columns, rows);
      map.forEach((share, place) => {
        shade.data[4 * place + 3] = 220 * (most > least ? (most - share) / (most - least) : 0);
      });
      const small = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
      small.getContext("2d").putImageData(shade, 0, 0);
      const { width, height } = canvas;
      brush.globalCompositeOperation = "source-over";
      brush.drawImage(pictures[step ? step - 1 : pictures.length - 1], 0, 0, width, height);
      brush.imageSmoothingQuality = "high";
      brush.drawImage(small, 0, 0, width, height);
      const mean = map.reduce((sum, share) => sum + share, 0) / map.length;
      const when = step ? `in step ${steps[step - 1].step + 1} of ${data.of}` : "over all steps";
      const word = document.createElement("b");
      word.textContent = data.words[shown];
      told.replaceChildren(word, ` took ${percent(mean)} of the attention ${when}; ${percent(most)} at its brightest place, ${percent(least)} at its darkest.`);
      canvas.setAttribute("aria-label", `The picture ${when}, lit by ${data.words[shown]}: ${percent(mean)} of the attention`);
      output.textContent = step ? steps[step - 1].step + 1 : "all";
      slider.setAttribute("aria-valuetext", step ? `step ${steps[step - 1].step + 1}` : "all steps");
      words.forEach((one, place) => one.setAttribute("aria-pressed", String(place === chosen)));
    }

    const look = (word) => {
      shown = word;
      paint();
    };
    words.forEach((word, place) => {
      word.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && look(place));
      word.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && look(chosen));
      word.addEventListener("focus", () => word.matches(":focus-visible") && look(place));
      word.addEventListener("click", () => {
        chosen = place;
        look(place);
      });
    });
    select.addEventListener("input", paint);
    slider.addEventListener("input", paint);
    Promise.all(pictures.map((picture) => picture.decode().catch(() => null))).then(paint);
  }

  const viewer = document.getElementById("stepper");
  if (viewer) stepper(viewer);
  const lamp = document.getElementById("lamp");
  if (lamp) light(lamp);
})();
