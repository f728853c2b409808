// What came, in order, and waits on it that end soon either way; in Node and in a browser.

const SLOWNESS = Number(globalThis.process?.env.TEST_SLOWNESS ?? 2); // of the machine; a page has no environment
const LIMIT_MS = 15_000 * SLOWNESS;

export class Events {
    all = [];
    #waiting = new Set();

    add(event) {
        this.all.push(event);
        for (const wake of this.#waiting) wake();
    }

    of(type) {
        return this.all.filter((event) => event.type === type);
    }

    // The first event of this type, or the number-th.
    async until(type, number = 1) {
        await this.wait(() => this.of(type).length >= number, `${type} number ${number}`);
        return this.of(type)[number - 1];
    }

    // Resolves as soon as hasCome says so; asked again at every event.
    wait(hasCome, what) {
        return new Promise((resolve, reject) => {
            const wake = () => {
                if (!hasCome()) return;
                clearTimeout(limit);
                this.#waiting.delete(wake);
                resolve();
            };
            const limit = setTimeout(() => {
                this.#waiting.delete(wake);
                const types = this.all.map(({ type }) => type).slice(-30);
                reject(new Error(`no ${what} within ${LIMIT_MS} ms; came: ${types}`));
            }, LIMIT_MS);
            this.#waiting.add(wake);
            wake();
        });
    }
}
