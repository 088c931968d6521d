//! What is in an owlet model file.
