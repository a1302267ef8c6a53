(function () {
  'use strict';
  var root = document.documentElement;
  root.classList.add('scripted');

  // Theme: as the system has it, or chosen here and kept where the browser allows that.
  var themes = ['', 'light', 'dark'];
  var names = { '': 'Theme: system', light: 'Theme: light', dark: 'Theme: dark' };
  var themeButton = document.getElementById('theme');
  function kept(value) {
    try {
      if (value === undefined) return localStorage.getItem('report-theme') || '';
      localStorage.setItem('report-theme', value);
    } catch (refused) { /* a page opened from a file may have no store */ }
    return '';
  }
  function show(theme) {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    themeButton.textContent = names[theme];
  }
  var chosen = kept();
  show(themes.indexOf(chosen) < 0 ? '' : chosen);
  themeButton.addEventListener('click', function () {
    var next = themes[(themes.indexOf(root.dataset.theme || '') + 1) % themes.length];
    show(next);
    kept(next);
  });

  // One submission in front, the others pale.
  var focus = new Set();
  document.querySelectorAll('button.key').forEach(function (button) {
    button.addEventListener('click', function () {
      var series = button.dataset.series;
      if (focus.has(series)) focus.delete(series); else focus.add(series);
      root.classList.toggle('focused', focus.size > 0);
      document.querySelectorAll('.s.on').forEach(function (e) { e.classList.remove('on'); });
      focus.forEach(function (one) {
        document.querySelectorAll('.s' + one).forEach(function (e) { e.classList.add('on'); });
      });
      document.querySelectorAll('button.key').forEach(function (other) {
        other.setAttribute('aria-pressed', String(focus.has(other.dataset.series)));
      });
    });
  });

  document.querySelectorAll('button.copy').forEach(function (button) {
    button.addEventListener('click', function () {
      var text = button.parentElement.querySelector('pre').textContent;
      function done(ok) {
        button.textContent = ok ? 'Copied' : 'Press Ctrl+C';
        setTimeout(function () { button.textContent = 'Copy'; }, 1500);
      }
      function select() {
        var range = document.createRange();
        range.selectNodeContents(button.parentElement.querySelector('pre'));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        done(document.execCommand('copy'));
      }
      if (navigator.clipboard) {
        navigator.clipboard.writeText(text).then(function () { done(true); }, select);
      } else { select(); }
    });
  });

  // What a mark stands for; without this script the browser shows the same titles itself.
  var tip = document.getElementById('tip');
  document.addEventListener('pointerover', function (event) {
    var mark = event.target.closest && event.target.closest('.chart .line, .chart .dot, .share');
    var title = mark && mark.querySelector('title');
    if (title) { mark.dataset.tip = title.textContent; title.remove(); }
    if (mark && mark.dataset.tip) {
      tip.textContent = mark.dataset.tip;
      tip.hidden = false;
      var box = tip.getBoundingClientRect();
      var x = Math.min(event.clientX + 12, innerWidth - box.width - 8);
      var y = event.clientY - box.height - 10;
      tip.style.left = Math.max(8, x) + 'px';
      tip.style.top = (y < 8 ? event.clientY + 16 : y) + 'px';
    } else { tip.hidden = true; }
  });
  document.addEventListener('scroll', function () { tip.hidden = true; }, { passive: true });
})();
