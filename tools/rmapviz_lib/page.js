'use strict';
// What the page does.  All words come from the data and go into the document
// as text, never as markup.
(function () {
  const steps = JSON.parse(document.getElementById('data').textContent);
  const stage = document.getElementById('stage');
  const search = document.getElementById('search');
  const slider = document.getElementById('slider');
  const members = document.getElementById('members');
  const rows = document.getElementById('rows');
  let step = null;      // the one that is shown
  let svg = null;
  let view = null;      // what of it: x, y, width, height
  let chosen = null;    // the node that was clicked
  let listed = null;    // the node that stands for what is listed

  function element(name, text, into) {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = String(text);
    if (into) into.appendChild(made);
    return made;
  }

  function row(into, cells, tag) {
    const made = element('tr', null, into);
    cells.forEach(cell => element(tag || 'td', cell, made));
    return made;
  }

  function clear(id) {
    const place = document.getElementById(id);
    place.replaceChildren();
    return place;
  }

  // ------------------------------------------------------- pan and zoom ---

  function look(box) {
    view = box;
    svg.setAttribute('viewBox', [box.x, box.y, box.width, box.height]
      .join(' '));
  }

  function whole() {
    const box = step.box;
    look({x: box[0], y: box[1], width: box[2], height: box[3]});
  }

  function zoom(by, x, y) {
    const cx = x === undefined ? view.x + view.width / 2 : x;
    const cy = y === undefined ? view.y + view.height / 2 : y;
    const width = Math.min(step.box[2] * 4,
      Math.max(step.box[2] / 200, view.width * by));
    const scale = width / view.width;
    look({x: cx - (cx - view.x) * scale, y: cy - (cy - view.y) * scale,
      width: width, height: view.height * scale});
  }

  function point(event) {
    const at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    return [at.x, at.y];
  }

  function centre(node) {
    const box = node.getBBox();
    const graph = svg.querySelector('g.graph').getCTM();
    const own = svg.getCTM().inverse().multiply(graph);
    const at = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2)
      .matrixTransform(own);
    look({x: at.x - view.width / 2, y: at.y - view.height / 2,
      width: view.width, height: view.height});
  }

  let grip = null;
  stage.addEventListener('pointerdown', event => {
    grip = {x: event.clientX, y: event.clientY, moved: false};
  });
  stage.addEventListener('pointermove', event => {
    if (!grip) return;
    const scale = svg.getScreenCTM().a;
    const dx = event.clientX - grip.x, dy = event.clientY - grip.y;
    if (!grip.moved && Math.abs(dx) + Math.abs(dy) < 4) return;
    if (!grip.moved) stage.setPointerCapture(event.pointerId);
    grip = {x: event.clientX, y: event.clientY, moved: true};
    look({x: view.x - dx / scale, y: view.y - dy / scale,
      width: view.width, height: view.height});
  });
  window.addEventListener('pointerup', () => {
    // the click that ends a drag is none
    if (grip && grip.moved) setTimeout(() => { grip = null; }, 0);
    else grip = null;
  });
  stage.addEventListener('wheel', event => {
    event.preventDefault();
    zoom(Math.exp(event.deltaY / 500), ...point(event));
  }, {passive: false});

  // --------------------------------------------------- what is connected ---

  function overlap(a, b) {
    return Boolean(a && b && a.some(one => b.includes(one)));
  }

  // A VMA with its column, an anon_vma with its tree, and what they touch.
  function connected(id) {
    const all = step.nodes, mine = all[id];
    const found = new Set([id]);
    const avs = mine.avs || (mine.av === undefined ? [] : [mine.av]);
    for (const [name, node] of Object.entries(all)) {
      if (mine.vmas && overlap(mine.vmas, node.vmas)) found.add(name);
      if (avs.length && (avs.includes(node.av) || overlap(avs, node.avs)))
        found.add(name);
    }
    for (const [a, b] of step.links) {
      if (a === id) found.add(b);
      if (b === id) found.add(a);
    }
    if (mine.avs) {
      for (const name of [...found])
        if (all[name].vmas)
          for (const [other, node] of Object.entries(all))
            if (/^vma/.test(other) && overlap(all[name].vmas, node.vmas))
              found.add(other);
    }
    return found;
  }

  function light(names) {
    stage.classList.toggle('lit', Boolean(names));
    for (const node of svg.querySelectorAll('g.node'))
      node.classList.toggle('on', Boolean(names && names.has(node.id)));
    for (const [a, b] of step.links) {
      const edge = svg.getElementById(a + '-' + b);
      if (edge)
        edge.classList.toggle('on',
          Boolean(names && names.has(a) && names.has(b)));
    }
  }

  function mark(vmas) {
    for (const line of rows.children)
      line.classList.toggle('on',
        Boolean(vmas && vmas.includes(Number(line.dataset.vma))));
  }

  // ---------------------------------------------------------------- facts ---

  function facts(title, told) {
    const place = clear('facts');
    document.getElementById('what').textContent = title;
    for (const [name, value] of told) row(place, [name, value]);
  }

  // All that a node stands for, if it is more than one.
  function list(id) {
    const node = id ? step.nodes[id] : {};
    const ids = node.avs || node.vmas || [];
    const many = ids.length > 1;
    clear('members');
    listed = many ? id : null;
    document.getElementById('open').hidden = !many;
    if (!many) return;
    document.getElementById('many').textContent = ids.length;
    ids.forEach((one, i) => {
      row(members, member(node, one, i)).dataset.id = one;
    });
    stop(members);
  }

  // An anon_vma; a VMA with its entries; or one with what its AVC joins it to.
  function member(node, id, i) {
    if (node.avs) return step.avs[id];
    const found = cells(step.vmas[id]);
    return node.to ? [found[0], found[1], 'to ' + node.to[i]] : found;
  }

  function tell(id) {
    facts(step.nodes[id].name, step.nodes[id].facts);
    list(id);
  }

  // One of many that a node stands for, while all of them stay listed.
  function tellMember(line) {
    const id = Number(line.dataset.id);
    for (const other of members.children)
      other.classList.toggle('on', other === line);
    if (step.nodes[listed].avs) {
      const [title, ...told] = step.avs[id];
      facts(title, told.filter(Boolean).map(words => ['', words]));
      return;
    }
    const vma = step.vmas[id];
    facts(vma.title, [['range', vma.range], ['access', vma.perms],
      ['name', vma.name || '-'], ['own AV', vma.own], ['walk', vma.result],
      ['at', vma.at || '-']]);
    mark([id]);
  }

  // ----------------------------------------------------------------- rows ---

  // A table is one stop for Tab, at the row where one was, or the first.
  function stop(place, at) {
    const seen = [...place.children].filter(line => !line.hidden);
    const here = at || seen.find(line => line.tabIndex === 0) || seen[0];
    for (const line of place.children) line.tabIndex = line === here ? 0 : -1;
  }

  function walk(place, line, key) {
    const seen = [...place.children].filter(one => !one.hidden);
    const at = seen.indexOf(line);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0,
      End: seen.length - 1}[key];
    if (to === undefined) return false;
    const next = seen[Math.min(seen.length - 1, Math.max(0, to))];
    stop(place, next);
    next.focus();
    return true;
  }

  function choosable(place, choice) {
    place.addEventListener('click', event => {
      const line = event.target.closest('tr');
      stop(place, line);
      choice(line);
    });
    place.addEventListener('keydown', event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const line = event.target.closest('tr');
      const taken = event.key === 'Enter' || event.key === ' ';
      if (taken) choice(line);
      if (!taken && !walk(place, line, event.key)) return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  choosable(members, tellMember);
  choosable(rows, line => {
    const vma = Number(line.dataset.vma), id = holder(vma);
    choose(id, true);
    if (step.nodes[id].vmas.length > 1)
      tellMember([...members.children].find(
        one => Number(one.dataset.id) === vma));
  });

  // --------------------------------------------------------------- choice ---

  function choose(id, move) {
    chosen = id;
    for (const node of svg.querySelectorAll('g.node'))
      node.classList.toggle('chosen', node.id === id);
    if (!id) {
      light(null);
      mark(null);
      facts('Click on anything', []);
      list(null);
      return;
    }
    light(connected(id));
    mark(step.nodes[id].vmas);
    tell(id);
    if (move) centre(svg.getElementById(id));
  }

  function cells(vma) {
    return [vma.who, vma.range + ' ' + vma.perms
      + (vma.name ? '\n' + vma.name : ''), vma.result, vma.at];
  }

  function fill() {
    clear('rows');
    step.vmas.forEach((vma, i) => {
      const line = row(rows, cells(vma));
      line.dataset.vma = i;
    });
    stop(rows);
    const eras = clear('eras');
    const most = Math.max(1, ...step.eras.map(era => era.visits || 0));
    for (const era of step.eras) {
      const line = row(eras, [era.name, '',
        era.text.replace(/ (?=[KMGT]?B$)/, '\u00a0')]);
      const width = era.visits / most * 6;
      const useful = Math.min(width, (era.hits || 0) / most * 6);
      for (const [share, kind] of [[useful, 'bar useful'],
        [width - useful, 'bar']]) {
        if (!(share > 0)) continue;
        const bar = element('span', null, line.children[1]);
        bar.className = kind;
        bar.style.width = share + 'rem';
      }
    }
    document.getElementById('history').hidden = !step.eras.length;
    const changes = clear('changes');
    for (const text of step.changes) element('li', text, changes);
    document.getElementById('changed').hidden = !step.changes.length;
  }

  // The node that stands for a VMA.
  function holder(vma) {
    return Object.keys(step.nodes).find(name => /^vma/.test(name)
      && step.nodes[name].vmas.includes(vma)) || null;
  }

  // --------------------------------------------------------------- search ---

  function matches(vma, words) {
    if (!words) return false;
    if (vma.find.includes(words)) return true;
    if (!/^(0x)?[0-9a-f]{4,16}$/.test(words)) return false;
    const at = BigInt('0x' + words.replace(/^0x/, ''));
    const [start, end] = vma.range.split('-').map(text => BigInt('0x' + text));
    return start <= at && at < end;
  }

  function seek(move) {
    const words = search.value.trim().toLowerCase();
    const found = [];
    step.vmas.forEach((vma, i) => { if (matches(vma, words)) found.push(i); });
    document.getElementById('count').textContent =
      words ? found.length + ' of ' + step.vmas.length : '';
    for (const line of rows.children)
      line.hidden = Boolean(words)
        && !found.includes(Number(line.dataset.vma));
    stop(rows);
    if (!words) {
      choose(null);
      return;
    }
    const names = new Set(found.map(holder).filter(Boolean));
    light(names);
    if (move && names.size) choose([...names][0], true);
  }

  search.addEventListener('input', () => seek(false));
  search.addEventListener('keydown', event => {
    if (event.key === 'Enter') seek(true);
  });

  // ----------------------------------------------------------- one picture ---

  function show(number) {
    step = steps[number];
    document.getElementById('title').textContent = step.title;
    document.getElementById('sub').textContent = step.sub;
    const all = document.getElementById('pictures').children;
    for (let i = 0; i < all.length; i++) all[i].hidden = i !== number;
    svg = all[number].querySelector('svg');
    whole();
    fill();
    choose(null);
    if (search.value) seek(false);
    if (steps.length > 1)
      document.getElementById('step').textContent =
        (number + 1) + ' of ' + steps.length + ': ' + step.caption;
  }

  function prepare(picture, nodes) {
    for (const node of picture.querySelectorAll('g.node')) {
      if (!nodes[node.id]) continue;
      node.setAttribute('tabindex', '0');
      node.setAttribute('role', 'button');
      node.setAttribute('aria-label', nodes[node.id].name);
      node.querySelectorAll('title').forEach(title => title.remove());
      node.addEventListener('click', event => {
        if (grip && grip.moved) return;
        event.stopPropagation();
        choose(node.id === chosen ? null : node.id);
      });
      node.addEventListener('mouseenter', () => {
        if (!chosen) { light(connected(node.id)); tell(node.id); }
      });
      node.addEventListener('mouseleave', () => {
        if (!chosen) light(null);
      });
      node.addEventListener('keydown', event => {
        if (event.key === 'Enter' || event.key === ' ') {
          event.preventDefault();
          const first = members.querySelector('[tabindex="0"]');
          if (node.id === chosen && first) first.focus();
          else choose(node.id);
        }
      });
    }
  }

  stage.addEventListener('click', () => {
    if (!(grip && grip.moved)) choose(null);
  });

  // From the list of those that are alike back to what stands for them.
  function release() {
    const back = members.contains(document.activeElement)
      && svg.getElementById(listed);
    search.value = '';
    seek(false);
    if (back) back.focus();
  }

  const keys = {
    '+': () => zoom(0.8), '=': () => zoom(0.8), '-': () => zoom(1.25),
    '0': whole, 'Escape': release,
    'ArrowLeft': () => look({...view, x: view.x - view.width / 10}),
    'ArrowRight': () => look({...view, x: view.x + view.width / 10}),
    'ArrowUp': () => look({...view, y: view.y - view.height / 10}),
    'ArrowDown': () => look({...view, y: view.y + view.height / 10}),
  };
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search) {
      if (event.key === 'Escape') { release(); search.blur(); }
      return;
    }
    // they move the slider, if it has the focus
    if (event.target === slider && /^Arrow/.test(event.key)) return;
    if (event.key === '/') { event.preventDefault(); search.focus(); return; }
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  function theme(dark) {
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  }
  theme(matchMedia('(prefers-color-scheme: dark)').matches);
  document.getElementById('theme').addEventListener('click', () =>
    theme(document.documentElement.dataset.theme !== 'dark'));
  for (const [id, what] of [['in', () => zoom(0.8)], ['out', () => zoom(1.25)],
    ['fit', whole]])
    document.getElementById(id).addEventListener('click', what);

  if (slider) {
    slider.max = steps.length - 1;
    slider.addEventListener('input', () => show(Number(slider.value)));
  }
  const pictures = document.getElementById('pictures').children;
  steps.forEach((one, i) => prepare(pictures[i], one.nodes));
  show(0);
})();
