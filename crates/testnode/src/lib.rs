//! testnode
