def show(*a): raise NotImplementedError
