// Who may sign in. Changed where the data is: `weir users`.
import { card, fill, h, notice, table } from '../dom.js';
import { time } from '../format.js';

const WORDS = { viewer: 'looks', analyst: 'works the review queue', risk: 'tries policies, sends refused records once more', supervisor: 'analyst and risk, and the second pair of eyes', admin: 'everything' };

export const view = {
  name: 'people',
  title: 'People',
  about: 'Who may sign in, and as what.',
  needs: 'GET /api/users',
  open(root, { get }) {
    fill(root, h('p.boot', 'Reading…'));
    get('/api/users').then(
      (found) => fill(root, h('div.stack', card('Users', null, table('Users', [{ head: 'user' }, { head: 'role' }, { head: 'may' }, { head: 'password set', tight: true }], found.users.map((user) => [h('strong', user.name), user.role, WORDS[user.role], time(user.changed_ms)]))),
        notice('calm', 'Changed on the command line, where the data is.', '`weir users add NAME --role analyst`', '`weir users role NAME risk`', '`weir users password NAME`', '`weir users remove NAME`'))),
      (problem) => fill(root, notice('bad', 'Not now.', problem.message)),
    );
    return {};
  },
};
