//! What keeps the stand-in strict.
