mod fold;
mod histogram;
mod idle;
mod steady;
mod timeline;
