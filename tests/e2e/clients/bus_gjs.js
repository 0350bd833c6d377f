// gjs, unmodified, on the session bus: what a GNOME program does.
const { Gio, GLib } = imports.gi;

const NAME = 'org.bitnetd.Bitnetd1';
const ROOT = '/org/bitnetd/Bitnetd1';
const QUESTION = 'What is the capital of France?';
const bus = Gio.DBus.session;
const decoder = new TextDecoder();
const completed = [];

function check(truth, what) {
    if (!truth)
        throw new Error(what);
}

function call(path, iface, method, args) {
    return bus.call_sync(NAME, path, `${NAME}.${iface}`, method, args, null,
        Gio.DBusCallFlags.NONE, 120000, null).recursiveUnpack();
}

function textFile(text) {
    const [file, stream] = Gio.File.new_tmp('bitnetd-XXXXXX');
    stream.get_output_stream().write_all(text, null);
    stream.close(null);
    const input = file.read(null);
    file.delete(null);
    return input;
}

function generate(model, text) {
    const input = textFile(text);
    const list = new Gio.UnixFDList();
    list.append(input.get_fd());
    const options = { 'max-output-tokens': new GLib.Variant('u', 40) };
    const [reply, fds] = bus.call_with_unix_fd_list_sync(NAME, ROOT, `${NAME}.Manager`,
        'Generate', new GLib.Variant('(sha{sv})', [model, 0, options]), null,
        Gio.DBusCallFlags.NONE, 120000, list, null);
    const [path, handle] = reply.deepUnpack();
    return [path, new Gio.UnixInputStream({ fd: fds.get(handle), close_fd: true })];
}

function readAll(stream) {
    const parts = [];
    for (;;) {
        const bytes = stream.read_bytes(65536, null);
        if (bytes.get_size() === 0)
            return parts;
        parts.push(decoder.decode(bytes.toArray()));
    }
}

function ask() {
    const [path, stream] = generate('', QUESTION);
    const parts = readAll(stream);
    const [result, details] = call(path, 'Job', 'Wait', null);
    check(result === 'done' && details.error === '', result);
    check(details['tokens-in'] > 0 && details['tokens-out'] > 0, 'usage');
    return [parts, details, path];
}

function refused(name, f) {
    try {
        f();
    } catch (e) {
        check(Gio.DBusError.get_remote_error(e) === `${NAME}.Error.${name}`, `${e}`);
        return;
    }
    throw new Error('no error');
}

bus.signal_subscribe(NAME, `${NAME}.Job`, 'Completed', null, null, Gio.DBusSignalFlags.NONE,
    (connection, sender, path, iface, signal, args) => {
        completed.push([path, ...args.recursiveUnpack()]);
    });

const [parts, details, first] = ask();
check(parts.join('').includes('Paris') && parts.length > 1, parts.join('|'));
refused('ModelNotFound', () => generate('no-such-model', QUESTION));
refused('NoSuchObject', () => call(`${ROOT}/job/999999`, 'Job', 'Cancel', null));

const [path, stream] = generate('', 'Count from one to one thousand.');
call(path, 'Job', 'Cancel', null);
check(call(path, 'Job', 'Wait', null)[0] === 'cancelled', 'not cancelled');
readAll(stream);

const [again, , second] = ask();
check(again.join('') === parts.join(''), 'another answer');

const loop = new GLib.MainLoop(null, false);
GLib.timeout_add(GLib.PRIORITY_DEFAULT, 200, () => loop.quit());
loop.run();
const words = Object.fromEntries(completed.map(c => [c[0], c]));
check(words[first][1] === 'done' && words[second][1] === 'done', 'signals');
check(words[path][1] === 'cancelled', 'signal of the cancelled one');
check(words[first][2]['tokens-out'] === details['tokens-out'], 'usage in the signal');
print('ok');
