// Signing in, and setting a new password.
import { changePassword, session, signIn } from './api.js';
import { announce, h, text } from './dom.js';

export function signInPage(entered) {
  const name = h('input', { id: 'name', name: 'username', autocomplete: 'username', required: true, maxLength: 64, autofocus: true, spellcheck: false, autocapitalize: 'none' });
  const password = h('input', { id: 'password', name: 'password', type: 'password', autocomplete: 'current-password', required: true, maxLength: 256 });
  const error = h('p.error', { role: 'alert' });
  const button = h('button.main', { type: 'submit' }, 'Sign in');
  const form = h('form.card', { onsubmit: submit },
    h('span.brand', h('img', { src: '/static/icon.svg', alt: '' }), 'Weir'),
    h('label', 'User', name), h('label', 'Password', password), error, button,
    h('p.hint', 'The first start of ', h('code', 'make run'), ' prints an admin’s password once. Lost it? ', h('code', 'weir users password admin')));
  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    text(error, '');
    try {
      await session(); // the token of the page may be older than the console
      entered(await signIn(name.value.trim(), password.value));
    } catch (problem) {
      text(error, problem.message);
      password.select();
    } finally {
      button.disabled = false;
    }
  }
  setTimeout(() => name.focus(), 0);
  document.title = 'Sign in · Weir';
  return h('main.sign', { id: 'main', tabIndex: -1 }, h('h1.unseen', 'Sign in to Weir'), form);
}

export function passwordDialog(changed) {
  const field = (label, autocomplete) => h('label', label, h('input', { type: 'password', autocomplete, required: true, maxLength: 256 }));
  const [old, fresh, again] = [field('Present password', 'current-password'), field('New password, 12 characters or more', 'new-password'), field('The new one again', 'new-password')];
  const value = (label) => label.querySelector('input').value;
  const error = h('p.error', { role: 'alert' });
  const dialog = h('dialog', { 'aria-label': 'Set a new password' },
    h('form', { onsubmit: submit }, h('h2', 'Set a new password'), old, fresh, again, error,
      h('div.row', h('button.main', { type: 'submit' }, 'Set it'), h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'))));
  async function submit(event) {
    event.preventDefault();
    if (value(fresh) !== value(again)) {
      text(error, 'The two new ones differ.');
      return;
    }
    try {
      changed(await changePassword(value(old), value(fresh)));
      dialog.close();
      announce('Your password is changed; you are signed out everywhere else.');
    } catch (problem) {
      text(error, problem.message);
    }
  }
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
