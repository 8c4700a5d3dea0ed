export const page = /* html */ `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Import contacts</title>
    <style>
      :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
      main { max-width: 32rem; margin: 4rem auto; padding: 0 1rem; }
      form { display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; }
      button { font: inherit; padding: 0.3rem 1rem; }
      progress { width: 100%; height: 1.5rem; margin-top: 2rem; }
    </style>
  </head>
  <body>
    <main>
      <h1>Import contacts</h1>
      <p>A text file with one address a line.</p>
      <form>
        <input type="file" name="contacts" aria-label="Contacts" required />
        <button>Import</button>
        <button type="button" name="cancel" hidden>Cancel</button>
      </form>
      <progress value="0" aria-label="Progress" hidden></progress>
      <p role="status"></p>
    </main>
    <script type="module">
      const form = document.querySelector('form');
      const bar = document.querySelector('progress');
      const status = document.querySelector('[role=status]');
      const cancel = form.elements.cancel;

      form.addEventListener('submit', async (event) => {
        event.preventDefault();
        const text = await form.elements.contacts.files[0].text();
        const response = await fetch('/imports', {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify({ contacts: text.split('\\n').filter(Boolean) }),
        });
        if (!response.ok) return (status.textContent = 'The file was not accepted');
        const { id, progress } = await response.json();
        cancel.onclick = () => fetch('/imports/' + id, { method: 'DELETE' });
        follow(progress);
      });

      function follow(url) {
        bar.hidden = cancel.hidden = false;
        const events = new EventSource(url);
        events.onmessage = ({ data }) => {
          const { done = 0, total = 1, state, failure } = JSON.parse(data);
          bar.max = total;
          bar.value = done;
          status.textContent = done + ' of ' + total + ' contacts, ' + state + (failure ? ': ' + failure : '');
          // Otherwise the browser would reconnect.
          if (state === 'running' || state === 'waiting') return;
          events.close();
          cancel.hidden = true;
        };
      }
    </script>
  </body>
</html>
`;
